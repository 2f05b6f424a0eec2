"""A checkout that cannot be written: what only remembers goes on, what must write says so in one line."""

import errno
import sys

import pytest

from figures.draw import draw_all
from toolkit import files
from toolkit.commands import run
from toolkit.commands.exercises import generate
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.hint import next_hint
from toolkit.commands.exercises.progress import table
from toolkit.errors import UserError

REASON = "Read-only file system"


@pytest.fixture
def read_only(toy, monkeypatch):
    """The toy course, in which nothing can be written or moved from now on (root may write in any folder)."""

    def refuse(self, *arguments):
        raise OSError(errno.EROFS, REASON, str(self))

    monkeypatch.setattr(files.Path, "write_bytes", refuse)
    monkeypatch.setattr(files.Path, "replace", refuse)
    return toy


def test_a_hint_is_shown_all_the_same(read_only, capsys):
    """The hint comes, and one line says that it is not remembered."""
    assert next_hint("91.1", read_only).startswith("91.1 Count: hint 1 of 3\n")
    said = f"cannot write {read_only / 'my/.progress.json'}: {REASON}; so the next command does not know of this one\n"
    assert capsys.readouterr().err == said


def test_a_check_gives_its_result_all_the_same(toy, edit, read_only, monkeypatch, capsys):
    """The tests run, and the result is printed; one line says that it is not remembered."""
    monkeypatch.setenv("COURSE_CODE", "mine")
    assert check("91", read_only) == 1
    told = capsys.readouterr()
    assert "0 of 2 exercises solved" in told.out
    assert told.err.count("\n") == 1 and f"{REASON}; so the next command" in told.err


def test_a_broken_memory_that_cannot_be_put_aside_is_one_line(read_only, capsys):
    """The table of progress comes without what was remembered."""
    with (read_only / "my/.progress.json").open("w") as file:
        file.write("{")
    assert "0 of 2 exercises solved" in table(read_only)
    assert capsys.readouterr().err == f"my/.progress.json can neither be read nor be put aside: {REASON}\n"


def test_what_must_write_says_so_in_one_line(read_only, tmp_path, monkeypatch):
    """Exercise files, figures and pictures of a run: a UserError that names the file and the reason."""
    stub = read_only / "chapters/ch91_second/counter.py"
    stub.unlink()
    with pytest.raises(UserError, match=f"cannot write {stub}: {REASON}"):
        generate.generate(read_only, may_replace=lambda path: True)
    with pytest.raises(UserError, match=f"cannot write .*png: {REASON}"):
        draw_all(target=tmp_path / "figures")
    monkeypatch.setattr(run, "PICTURES", tmp_path / "pictures")
    monkeypatch.setattr(run, "ENGINES", run.ENGINES[:1])
    monkeypatch.setattr(run.course, "use", lambda *arguments, **keywords: None)
    monkeypatch.setattr(sys, "argv", ["run", "--model", "tiny", "--tokens", "2"])
    with pytest.raises(UserError, match=f"cannot write .*ch01_naive_loop.png: {REASON}"):
        run.main()
