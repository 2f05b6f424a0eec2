"""Whatever a learner does in my/, git has nothing to say; and every command is there without make."""

import importlib.util
import re
import shutil
import subprocess
import sys

import pytest

from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.hint import next_hint
from toolkit.commands.learner.reset import reset
from toolkit.commands.learner.start import start
from toolkit.commands.learner.update import update
from toolkit.course import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def git(toy):
    """The toy course as a clone without my/; git with some arguments, and what it prints."""
    shutil.rmtree(toy / "my")
    shutil.copy(ROOT / ".gitignore", toy)

    def run(*arguments):
        identity = ["-c", "user.name=Learner", "-c", "user.email=learner@example.org", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=toy, capture_output=True, text=True, check=True)
        return done.stdout

    run("init", "-q")
    run("add", "-A")
    run("commit", "-q", "-m", "The course")
    return run


def test_git_status_stays_clean(toy, git, edit, change):
    """Through every command, an update with a conflict, checkpoints, pictures and whatever else lies in my/."""
    start(toy)
    edit('    raise NotImplementedError("ch91 exercise 2: Add up")\n', "    return 1\n")
    check("91", toy)
    next_hint("91.1", toy)
    for name in ("ch91_second/.ipynb_checkpoints/x.ipynb", "ch91_second/plot.png", "own/notes.md", "Untitled.ipynb"):
        (toy / "my" / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / "my" / name).write_text("x")
    (toy / ".my.123.tmp").mkdir()  # of a start that was killed
    (toy / ".my.123.tmp/x").write_text("x")
    assert git("status", "--porcelain") == ""
    change("solutions/ch91_second/counter.py", ("result = 0\n", "result = 0.0\n"))
    git("commit", "-q", "-a", "-m", "A new release")
    update(toy)
    reset("91.1", toy)
    assert git("status", "--porcelain") == ""
    assert "my/" not in git("ls-files")


@pytest.mark.parametrize("target", ["start", "update", "reset", "watch", "lab"])
def test_every_target_is_a_module_that_runs_without_make(target):
    """The README names it for those without make, and what it is called with."""
    (line,) = re.findall(rf"^{target}:.*\n\t@\$\(VENV\) -m (toolkit\.\S+)", MAKEFILE, re.MULTILINE)
    assert line == f"toolkit.commands.learner.{target}"
    assert f".venv/bin/python -m {line}" in README
    assert importlib.util.find_spec(line)


def test_nothing_of_it_needs_a_shell_or_links():
    """So it works on Windows."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "toolkit/commands/learner").glob("*.py")]
    assert len(texts) > 10
    wrong = r"symlink|os\.system|shell=True|os\.exec|os\.fork|import (?:fcntl|resource|pwd)"
    assert not re.findall(wrong, "".join(texts))


def test_which_exercise_is_asked_in_one_line():
    """Without a number, each command says what to call."""
    for name, question in (("reset", "which exercise? For instance: make reset EX=2.1"), ("watch", "which chapter?")):
        command = [sys.executable, "-m", f"toolkit.commands.learner.{name}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.startswith(f"error: {question}") and done.stderr.count("\n") == 1
