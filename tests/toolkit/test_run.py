"""`make run` on the tiny model: what it prints, what it writes, and what it says of bad input."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from toolkit.commands import run
from toolkit.commands.engines import ENGINES, measure
from toolkit.errors import UserError


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """`run.main` with arguments, in this process, with its pictures in `tmp_path / "pictures"`."""
    monkeypatch.setattr(run, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(run.course, "use", lambda *args, **kwargs: None)  # the tests have chosen already

    def call(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["run", *arguments])
        run.main()

    return call


def write_prompts(folder: Path, *prompts: str) -> str:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the columns differ on a GPU, and bf16 engines may disagree")
def test_all_engines_answer_alike(main, tmp_path, capsys):
    """Every engine is run; those meant to be right agree; each gets a line, a picture and a trace."""
    main("--model", "tiny", "--tokens", "6", "--prompts", write_prompts(tmp_path, "One two three", "Why?", "x " * 40))
    printed = capsys.readouterr().out
    assert "All other engines gave the same tokens for every prompt." in printed
    assert "attention over the paged cache: plain torch" in printed
    assert "ch03 streams: wrong by design" in printed
    for entry in ENGINES:
        assert re.search(rf"^{entry.name} +[\d.]+ +\d+ +[\d.]+%", printed, re.M), (
            f"no line for {entry.name}:\n{printed}"
        )
        file = tmp_path / "pictures" / f"{entry.name.replace(' ', '_')}.png"
        assert file.read_bytes().startswith(b"\x89PNG")
        assert json.loads(file.with_suffix(".json").read_text())["traceEvents"]
    streams = [line for line in printed.splitlines() if re.match(r"ch0[345] .*%", line)]
    assert all(line.split()[-4:-2] == ["-", "-"] for line in streams), "simulated figures stand in columns of their own"
    assert "sim. idle" in printed and "simulated" in printed


def test_all_engines_have_the_same_number_of_threads(main, tmp_path, monkeypatch):
    """Whatever torch was set to, each engine's forward runs on one thread: the table compares like with like."""
    threads: dict[str, set[int]] = {}

    def watched(entry, loaded, *arguments):
        mine = threads.setdefault(entry.name, set())
        hook = loaded.model.register_forward_pre_hook(lambda *_: mine.add(torch.get_num_threads()))
        try:
            return measure(entry, loaded, *arguments)
        finally:
            hook.remove()

    monkeypatch.setattr(run, "measure", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        main("--model", "tiny", "--tokens", "2", "--prompts", write_prompts(tmp_path, "One two three"))
    finally:
        torch.set_num_threads(before)
    assert threads == {entry.name: {1} for entry in ENGINES}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tokens", "0"], "TOKENS is '0'"),
        (["--tokens", "many"], "TOKENS is 'many'"),
        (["--model", "1b", "--tokens", "0"], "TOKENS is '0'"),
        (["--model", "tiny", "--prompts", "/no/such/file"], "/no/such/file"),
        (["--model", "tiny", "--tokens", "100000"], "exceed the model's"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
    ],
)
def test_bad_input_is_one_line(main, arguments, words, tmp_path):
    """What cannot be used is refused in one line that names it, before any engine runs, and nothing is written."""
    with pytest.raises(UserError, match=words) as refusal:
        main(*arguments)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "pictures").exists()


def test_a_refusal_ends_with_code_2_and_no_traceback():
    """As a command, a refusal is one line on stderr and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "toolkit.commands.run", "--tokens", "-3"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: TOKENS is '-3'") and done.stderr.count("\n") == 1
