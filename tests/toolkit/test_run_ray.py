"""`make run-ray` where it ends before it starts Ray, which is not installed where this test runs."""

import json
import sys
from pathlib import Path

import pytest

from ch10_serving.offline_job import OfflineJob, Recipe
from toolkit import course
from toolkit.commands import run_ray
from toolkit.errors import UserError


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of two prompts, in a folder in which the command is about to write answers.jsonl."""
    prompts, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    prompts.write_text('{"prompt": "a"}\n{"prompt": 5}\n')
    files = ["--prompts", str(prompts), "--answers", str(answers), "--replicas", "1"]
    monkeypatch.setattr(sys, "argv", ["run_ray", "--model", "tiny", "--tokens", "8", *files])
    monkeypatch.setattr(course, "use", lambda *_, **__: None)  # these tests have chosen
    return prompts


def test_where_all_is_answered_there_is_nothing_to_start(command: Path, capsys: pytest.CaptureFixture[str]):
    """It says how many there are, and names those that could not be answered: exit code 1."""
    rows = [{"text": "b"}, {"error": f'{command}:2: "prompt" is int'}]
    with OfflineJob(command, command.with_name("answers.jsonl"), Recipe("tiny", 8)).open_answers() as answers:
        answers.append([json.dumps(row).encode() for row in rows])
    assert run_ray.main() == 1
    said = capsys.readouterr()
    assert said.out == f"1 answers in {command.with_name('answers.jsonl')}\n"
    assert said.err == f'  failed: {command}:2: "prompt" is int\n'


def test_a_model_that_is_not_there(command: Path, monkeypatch: pytest.MonkeyPatch):
    """One line, before Ray is started."""
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--model", "/nowhere"])
    with pytest.raises(UserError, match="there is no such folder"):
        run_ray.main()
