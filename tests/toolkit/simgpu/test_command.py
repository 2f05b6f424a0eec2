"""python -m toolkit.simgpu script.py: exit codes, reports, arguments."""

import re
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


def test_the_traceback_is_the_programs_own(run, tmp_path):
    """What Python would print, for an error and for one that came out of another."""
    path = tmp_path / "fails.py"
    path.write_text("def f():\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        {}['key']\n\n\nf()\n")
    code, _, errors = run(str(path))
    python = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert (code, errors) == (python.returncode, python.stderr)


@pytest.mark.parametrize(("status", "code", "said"), [("None", 0, ""), ("3", 3, ""), ("'no', 1", 1, "('no', 1)\n")])
def test_an_exit_is_as_pythons(run, tmp_path, status, code, said):
    path = tmp_path / "ends.py"
    path.write_text(f"import sys\nsys.exit(({status}))\n")
    assert run(str(path)) == (code, "", said)


def test_several_seeds_in_processes_of_their_own(script):
    command = [sys.executable, "-m", "toolkit.simgpu", "--seeds", "1", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "simgpu: random:0" in done.stderr and done.stderr.count("RACE on") == 1


def test_the_page_of_a_run(run, script, tmp_path):
    """The races are marked on it, and what the program's author wrote is text."""
    evil = tmp_path / "<b>x.py"
    evil.write_text(PROGRAM.replace("    y = x * 2\n", '    y = x * 2; "</script><img src=x onerror=alert(1)>"\n'))
    code, _, told = run("--html", str(tmp_path / "page.html"), str(evil))
    assert code == 1 and told.endswith(f"simgpu: the timeline is in {tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text()
    assert "the missing edge" in page and "other races (2)" in page and "1st writes: H2D copy on stream1" in page
    assert "&lt;b&gt;x.py" in page and "<b>x" not in page and "<img src=x" not in page


def test_a_right_program_has_a_page_without_races(run, script, tmp_path):
    page = tmp_path / "new" / "page.html"
    assert run("--html", str(page), script, "--right")[0] == 0
    assert "the missing edge" not in page.read_text() and "H2D copy" in page.read_text()
    assert "The whole run is here" in page.read_text()


def test_the_page_of_a_long_run(run, script, tmp_path, monkeypatch):
    """One stretch of it is drawn, with a race, and it says so."""
    monkeypatch.setattr("toolkit.timeline.program_page.MOST_OPERATIONS", 4)
    assert run("--html", str(tmp_path / "page.html"), script)[0] == 1
    page = (tmp_path / "page.html").read_text()
    assert re.search(r"of \d+ operations 4 are drawn, those around a race\. \d+ operations", page)
    assert "the missing edge" in page and "seen 3 times" in page and "The whole run is here" not in page


def test_a_page_that_cannot_be_written(run, script, tmp_path):
    (tmp_path / "file").touch()
    code, out, told = run("--html", str(tmp_path / "file" / "page.html"), script, "--right")
    assert code == 2 and out and told.startswith("simgpu: no page: cannot write ") and told.count("\n") == 1


def test_where_there_is_no_timeline(run, script, monkeypatch, tmp_path):
    """It is said before the program runs, not after hours."""
    monkeypatch.setitem(sys.modules, "toolkit.timeline.program_page", None)
    with pytest.raises(SystemExit) as end:
        run("--html", str(tmp_path / "page.html"), script)
    assert end.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "nowhere.py: no such file"),
        (["--seeds", "0", __file__], "--seeds 0: at least 1"),
        (["--policy", "random", __file__], "unknown policy 'random': use \"eager\""),
    ],
)
def test_what_it_cannot_do(run, capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2 and words in capsys.readouterr().err
