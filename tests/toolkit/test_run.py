"""`make run` on the tiny model: what it prints, what it writes, and what it says of bad input."""

import io
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from toolkit.commands import run
from toolkit.commands.engines import ENGINES, measure
from toolkit.errors import UserError


def main_in_this_process(patch: pytest.MonkeyPatch, pictures: Path) -> Callable[..., None]:
    """`run.main` with arguments, and where its pictures go."""
    patch.setattr(run, "PICTURES", pictures)
    patch.setattr(run.course, "use", lambda *args, **kwargs: None)  # the tests have chosen already

    def call(*arguments: str) -> None:
        patch.setattr(sys, "argv", ["run", *arguments])
        run.main()

    return call


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    return main_in_this_process(monkeypatch, tmp_path / "pictures")


def write_prompts(folder: Path, *prompts: str) -> str:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


@dataclass
class RunOfAll:
    """What a run of all engines printed, where its pictures are, and each forward's number of threads by engine."""

    printed: str
    pictures: Path
    threads: dict[str, set[int]]


@pytest.fixture(scope="module")
def run_of_all(tmp_path_factory: pytest.TempPathFactory) -> RunOfAll:
    """All engines on three prompts, in a process whose torch was set to two threads."""
    folder, threads = tmp_path_factory.mktemp("run"), defaultdict[str, set[int]](set)

    def watched(entry, loaded, *arguments):
        hook = loaded.model.register_forward_pre_hook(lambda *_: threads[entry.name].add(torch.get_num_threads()))
        try:
            return measure(entry, loaded, *arguments)
        finally:
            hook.remove()

    prompts, before = write_prompts(folder, "One two three", "Why?", "x " * 40), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setattr(run, "measure", watched)
        torch.set_num_threads(2)
        try:
            main_in_this_process(patch, folder / "pictures")("--model", "tiny", "--tokens", "6", "--prompts", prompts)
        finally:
            torch.set_num_threads(before)
    return RunOfAll(out.getvalue(), folder / "pictures", threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the columns differ on a GPU, and bf16 engines may disagree")
def test_all_engines_answer_alike(run_of_all: RunOfAll):
    """Every engine is run; those meant to be right agree; each gets a line, a picture and a trace."""
    printed = run_of_all.printed
    assert "All other engines gave the same tokens for every prompt." in printed
    assert "attention over the paged cache: plain torch" in printed
    assert "ch03 streams: wrong by design" in printed
    for entry in ENGINES:
        assert re.search(rf"^{entry.name} +[\d.]+ +\d+ +[\d.]+%", printed, re.M), (
            f"no line for {entry.name}:\n{printed}"
        )
        file = run_of_all.pictures / f"{entry.name.replace(' ', '_')}.png"
        assert file.read_bytes().startswith(b"\x89PNG")
        assert f"<h1>{entry.name}" in file.with_suffix(".html").read_text(encoding="utf-8")
        assert json.loads(file.with_suffix(".json").read_text())["traceEvents"]
    streams = [line for line in printed.splitlines() if re.match(r"ch0[345] .*%", line)]
    assert all(line.split()[-4:-2] == ["-", "-"] for line in streams), "simulated figures stand in columns of their own"
    assert "sim. idle" in printed and "simulated" in printed


def test_all_engines_have_the_same_number_of_threads(run_of_all: RunOfAll):
    """Whatever torch was set to, each engine's forward runs on one thread: the table compares like with like."""
    assert run_of_all.threads == {entry.name: {1} for entry in ENGINES}


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
