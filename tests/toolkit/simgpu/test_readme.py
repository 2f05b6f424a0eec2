"""The simulator's README: its example runs and reports what is shown there, and it lists every public name."""

import re
import subprocess
import sys
import textwrap

import pytest

from toolkit import simgpu
from toolkit.course import ROOT

TEXT = (ROOT / "toolkit/simgpu/README.md").read_text(encoding="utf-8")


FIRST, WITHIN = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def alone(tmp_path):
    """A folder with nothing of the course but the package."""
    (tmp_path / "toolkit").mkdir()
    (tmp_path / "toolkit/simgpu").symlink_to(ROOT / "toolkit/simgpu", target_is_directory=True)
    return tmp_path


@pytest.mark.parametrize(
    ("policy", "mended", "numbers"),
    [("eager", False, (0, 10, 20)), ("lazy", False, (0, 0, 0)), ("lazy", True, (0, 10, 20))],
)
def test_two_minutes_to_the_first_race(alone, policy, mended, numbers):
    """The program that is shown, the command, the report, and the line that mends it."""
    wait = re.search(r"With\n`(torch\.cuda\.current_stream\(\)\.wait_event\(loaded\))`", TEXT)[1]
    program = FIRST.replace("    print", f"    {wait}\n    print") if mended else FIRST
    (alone / "prefetch.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "toolkit.simgpu", "--policy", policy, "prefetch.py"]
    done = subprocess.run(command, cwd=alone, capture_output=True, text=True)
    assert done.stdout == "".join(f"{[float(number)] * 4}\n" for number in numbers)
    report = textwrap.dedent(re.search(r"and reports:\n\n(.*?edge\n)\n[^ ]", TEXT, re.DOTALL)[1])
    assert (done.returncode, done.stderr) == ((0, "") if mended else (1, report))


def test_the_example_runs_and_prints_the_report(alone):
    """As a program of its own."""
    (alone / "example.py").write_text(WITHIN, encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = re.search(r"The report:\n\n(.*?)\n\n", TEXT, re.DOTALL)[1]
    shown = [line.removeprefix("    ") for line in report.splitlines()]
    printed = [re.sub(r" +# [^`]*`", "`", line) for line in done.stdout.splitlines()]  # without the example's comments
    assert printed[0] == "tensor([1., 1., 1., 1.])"
    assert printed[1 : 1 + len(shown)] == shown
    ms = re.search(r"the report, and (\S+ ms)", TEXT)[1]
    assert printed[-1] == f"{ms} on the virtual clock"


def test_every_public_name_is_listed():
    """In the table of names, and nothing else is in it."""
    table = TEXT.partition("## Public names")[2].partition("\n## ")[0]
    listed = re.findall(r"`(\w+)(?:\([^`]*\))?`", table)
    assert sorted(listed) == sorted(simgpu.__all__)
