"""The commands for a class: there without make, for every system, and asked for what is missing in one line."""

import re
import subprocess
import sys

import pytest

from toolkit.course import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"toolkit.commands.classroom.{name}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("target", ["report", "collect", "release"])
def test_every_target_is_a_module_that_the_readme_names(target):
    (line,) = re.findall(rf"^{target}:.*\n\t@\$\(VENV\) -m (toolkit\.\S+)", MAKEFILE, re.MULTILINE)
    assert line == f"toolkit.commands.classroom.{target}"
    assert f".venv/bin/python -m {line}" in README and f"make {target}" in README


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["collect"], "which folder? For instance: make collect FOLDER=reports/"),
        (["collect", "no-such-folder"], "there is no folder"),
        (["collect", ".", "--out", "./docs"], "lies in the folder of the reports"),
        (["collect", "x", "--jobs", "0"], "must be more than 0"),
        (["release"], "up to which chapter (0 to 10), and where?"),
        (["release", "5", "--to", "docs"], "lies in this repository"),
        (["release", "99", "--to", "../x"], "there is no chapter '99'"),
        (["report", "--name", "x" * 101], "a name has up to 100 characters"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(arguments, says):
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr


def test_nothing_of_it_needs_a_shell_or_another_system():
    """So it works on Windows."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "toolkit/commands/classroom").glob("*.py")]
    assert len(texts) > 10
    wrong = r"symlink_to|os\.system|shell=True|os\.exec|os\.fork|killpg|import (?:fcntl|resource|pwd)"
    assert not re.findall(wrong, "".join(texts))
