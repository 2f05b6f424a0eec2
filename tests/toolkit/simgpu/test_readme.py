"""The simulator's README: its example runs and reports what is shown there, and it lists every public name."""

import re
import subprocess
import sys

from toolkit import simgpu
from toolkit.course import ROOT

TEXT = (ROOT / "toolkit/simgpu/README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_prints_the_report(tmp_path):
    """As a program of its own, with nothing of the course but the package on its path."""
    example = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    (tmp_path / "example.py").write_text(example, encoding="utf-8")
    (tmp_path / "toolkit").mkdir()
    (tmp_path / "toolkit/simgpu").symlink_to(ROOT / "toolkit/simgpu", target_is_directory=True)
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True)
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
