"""`make run-ray` as a user runs it: killed, out of disk, with rows that are no prompts. None is lost, none is twice."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.on_ray.processes import LONG, below, kill, until, workers
from toolkit.course import ROOT

NUM_ROWS, TOKENS = 128, 24
BAD = {5: b"{broken", 77: b'{"prompt": 5}'}  # by line
ENGINE = "OfflineEngine"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("offline") / "prompts.jsonl"
    rows = [json.dumps({"prompt": f"row {line} of many", "id": line}).encode() for line in range(1, NUM_ROWS + 1)]
    path.write_bytes(b"".join(BAD.get(line, row) + b"\n" for line, row in enumerate(rows, start=1)))
    return path


@pytest.fixture(scope="module")
def expected(prompts: Path) -> bytes:
    """What an undisturbed run writes: the answers of one engine, without Ray."""
    from ch10_serving.offline_engine import OfflineEngine
    from ch10_serving.offline_job import Recipe, rows_of
    from toolkit.commands.run_ray import load_engine

    engine = OfflineEngine(lambda: load_engine("tiny", 16), str(prompts), Recipe("tiny", TOKENS), NUM_ROWS)
    rows = list(rows_of(prompts))
    answers = engine.answer([line for line, _, _ in rows], [text for _, _, text in rows])
    engine.watchdog.close()
    engine.server.close()
    return b"".join(answer + b"\n" for answer in answers)


class Run:
    """A run of the command in a process of its own."""

    def __init__(self, prompts: Path, answers: Path, replicas: int = 1) -> None:
        command = [sys.executable, "-m", "toolkit.commands.run_ray", "--model", "tiny", "--tokens", str(TOKENS)]
        files = ["--prompts", str(prompts), "--answers", str(answers), "--replicas", str(replicas)]
        self.process = subprocess.Popen([*command, *files], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    def end(self) -> tuple[int, str]:
        """Exit code, and all that it said."""
        out, said = self.process.communicate(timeout=3 * LONG)
        return self.process.returncode, (out + said).decode()

    def stop(self) -> None:
        for process in below(self.process.pid):
            process.kill()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def runs(prompts: Path) -> Iterator[Any]:
    begun: list[Run] = []

    def begin(answers: Path, replicas: int = 1) -> Run:
        begun.append(Run(prompts, answers, replicas))
        return begun[-1]

    yield begin
    for run in begun:
        run.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 12 KB; for a user who may not make one, on an ordinary disk."""
    options = ["-t", "tmpfs", "-o", "size=12k", "tmpfs", str(tmp_path)]
    made = subprocess.run(["mount", *options], capture_output=True).returncode == 0
    yield tmp_path
    if made:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_three_runs(runs: Any, prompts: Path, expected: bytes, small_disk: Path):
    """The first runs out of disk, the second is killed, the third loses an engine; nothing of that is to be seen."""
    answers = small_disk / "answers.jsonl"

    def is_a_beginning() -> bool:
        return 0 < answers.stat().st_size < len(expected) and expected.startswith(answers.read_bytes())

    if small_disk.is_mount():
        code, said = runs(answers).end()
        safe = answers.read_bytes().count(b"\n")
        assert code == 2 and f"the disk is full; make room, and run this again: {safe} of {NUM_ROWS}" in said, said
        assert "Traceback" not in said and is_a_beginning()
        subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)

    size = answers.stat().st_size if answers.exists() else 0
    run = runs(answers)
    until(lambda: answers.exists() and answers.stat().st_size > size, "there are further answers")
    started = below(run.process.pid)
    # These two try for a minute to tell Ray's server, which has ended, of the end (publish_error_to_driver).
    agents = [process for process in started if process.name().endswith("Agent")]
    os.kill(run.process.pid, signal.SIGKILL)
    _, still = psutil.wait_procs([process for process in started if process not in agents], timeout=LONG)
    assert not still, "the run was killed, and processes of Ray's go on"
    assert is_a_beginning(), "it was killed before its end, and only whole rows are written"
    torn = b'{"line": 17, "te'  # as if it had been killed in the middle of a line
    size = answers.stat().st_size + len(torn)
    with open(answers, "ab") as file:
        file.write(torn)

    run = runs(answers, replicas=min(psutil.cpu_count() or 1, 2))
    until(lambda: answers.stat().st_size > size, "there are further answers")
    kill(until(lambda: workers(run.process.pid, ENGINE), "there is an engine")[0])
    code, said = run.end()
    assert answers.read_bytes() == expected
    assert code == 1 and f"{prompts}:5: not JSON" in said and f'{prompts}:77: "prompt" is int' in said, said
    assert f"{NUM_ROWS - 2} answers" in said and "Traceback" not in said, said

    assert len(agents) == 2 and not psutil.wait_procs(agents, timeout=LONG)[1]
