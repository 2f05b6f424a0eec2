"""python -m toolkit.simgpu script.py: exit codes, reports, arguments."""

import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.simgpu.__main__ import main

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
import torch

side = torch.cuda.Stream()
host, x = torch.ones(1000).pin_memory(), torch.zeros(1000, device="cuda:0")
for _ in range(3):
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        x.copy_(host, non_blocking=True)
    if "--right" in sys.argv:
        torch.cuda.current_stream().wait_stream(side)
    y = x * 2
    side.synchronize()
print(__name__, sys.argv[1:], y.sum().item())
sys.exit(7 if "--exit" in sys.argv else None)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command here: a process of its own takes seconds to begin."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["simgpu", *arguments])
        monkeypatch.setattr(sys, "path", list(sys.path))
        code = main()
        return code, *capsys.readouterr()

    return call


def test_a_right_program_runs_as_it_is(run, script):
    assert run("--policy", "lazy", script, "--right", "--n", "3") == (
        0,
        "__main__ ['--right', '--n', '3'] 2000.0\n",
        "",
    )


def test_a_race_is_reported_once(run, script):
    code, out, reports = run(script)
    assert code == 1 and "__main__" in out, "the program itself goes on"
    assert reports.count("RACE on") == 1 and "program.py:10  `x.copy_(host, non_blocking=True)`" in reports
    assert "stream1 was made at" in reports and "program.py:5  `side = torch.cuda.Stream()`" in reports
    assert "seen 3 times" in reports and reports.endswith("simgpu: 1 race, 1 missing edge\n")


def test_the_programs_own_exit_code(run, script):
    assert run(script, "--right", "--exit")[0] == 7


def test_a_program_that_fails(run, tmp_path):
    path = tmp_path / "fails.py"
    path.write_text("import torch\ntorch.cuda.memory_summary()")
    code, _, errors = run(str(path))
    assert code == 1 and "NotImplementedError: simgpu does not model torch.cuda.memory_summary" in errors


def test_several_seeds_in_processes_of_their_own(script):
    command = [sys.executable, "-m", "toolkit.simgpu", "--seeds", "1", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "simgpu: random:0" in done.stderr and done.stderr.count("RACE on") == 1
