"""`make start`: what it makes, what it takes over, and what it says where my/ cannot be used."""

import errno
import json
import shutil
from pathlib import Path

import pytest

from toolkit import course, files
from toolkit.commands.exercises import hint, progress
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.lessons import build
from toolkit.commands.exercises.progress import table
from toolkit.commands.exercises.state import State, load_state
from toolkit.commands.learner.lab import arguments
from toolkit.commands.learner.reset import reset
from toolkit.commands.learner.start import start
from toolkit.commands.learner.update import update
from toolkit.commands.learner.watch import watch
from toolkit.errors import UserError

from .conftest import LESSON

COUNTER = "ch91_second/counter.py"


@pytest.fixture
def fresh(toy):
    """The toy course with a lesson, as it is cloned: without my/."""
    shutil.rmtree(toy / "my")
    (toy / "chapters/ch91_second/lesson.py").write_text(LESSON)
    return toy


def test_it_makes_the_exercise_files_and_the_lessons_without_outputs(fresh):
    """Unsolved files as in chapters/, notebooks with the lesson's cells, both kept as a base; nothing else."""
    lesson = fresh / "chapters/ch91_second/lesson.py"
    build(lesson, fresh)
    executed = json.loads(lesson.with_suffix(".ipynb").read_text())["cells"]
    assert executed[1]["execution_count"] == 1
    assert start(fresh) == ["made my/, which is yours: 1 files with exercises, and 1 lessons"]
    made = {path.relative_to(fresh / "my").as_posix() for path in (fresh / "my").rglob("*") if path.is_file()}
    both = {COUNTER, "ch91_second/lesson.ipynb"}
    assert made == both | {f".base/{name}" for name in both} | {".base/release.json"}
    assert (fresh / "my" / COUNTER).read_text() == (fresh / "chapters" / COUNTER).read_text()
    cells = json.loads((fresh / "my/ch91_second/lesson.ipynb").read_text())["cells"]
    assert [cell["source"] for cell in cells] == [cell["source"] for cell in executed]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * 2


@pytest.mark.parametrize(
    "command",
    [
        lambda root: check("91", root),
        lambda root: hint.next_hint("91.1", root),
        progress.table,
        lambda root: reset("91.1", root),
        lambda root: watch("91", root, saved=[]),
        update,
    ],
    ids=["check", "hint", "progress", "reset", "watch", "update"],
)
def test_every_command_makes_it_when_it_is_missing(fresh, command, capsys):
    """And says so; after that they say nothing of it."""
    command(fresh)
    assert capsys.readouterr().out.startswith("made my/, which is yours: ")
    assert (fresh / "my" / COUNTER).is_file()
    command(fresh)
    assert "made my/" not in capsys.readouterr().out


def test_the_lab_opens_the_learners_lesson():
    """Its root is the repository, and its first page chapter 0's lesson in my/."""
    first = "--LabApp.default_url=/lab/tree/my/ch00_measuring/lesson.ipynb"
    assert arguments(Path("/course")) == [f"--ServerApp.root_dir={Path('/course')}", first]
    assert (course.ROOT / "chapters/ch00_measuring/lesson.py").is_file()


def test_what_was_written_in_chapters_is_taken_over(fresh, change):
    """Edited exercises, a copy of a given file, new files and edited notebooks; an executed lesson is no edit."""
    chapters = fresh / "chapters"
    build(chapters / "ch91_second/lesson.py", fresh)
    change(f"chapters/{COUNTER}", ("    result = 0\n", "    result = 7\n"))
    (chapters / "ch90_first").mkdir()
    (chapters / "ch90_first/step.py").write_text("STEP = 5\n")
    (chapters / "ch91_second/notes.txt").write_bytes(b"caf\xe9\r\n")
    (chapters / "ch91_second/__pycache__").mkdir()
    (chapters / "ch91_second/__pycache__/x.pyc").write_bytes(b"x")
    before = {path: path.read_bytes() for path in chapters.rglob("*") if path.is_file()}
    names = ["ch90_first/step.py", COUNTER, "ch91_second/notes.txt"]
    assert start(fresh)[1:] == [
        *(f"took over chapters/{name}, which you had edited" for name in names),
        "chapters/ still has these edits, which no command runs; git restore chapters takes them away",
    ]
    for name in names:
        assert (fresh / "my" / name).read_bytes() == (chapters / name).read_bytes()
    assert not list((fresh / "my").rglob("__pycache__"))
    assert before == {path: path.read_bytes() for path in chapters.rglob("*") if path.is_file()}, "it is copied"
    assert "result = 7" not in (fresh / "my/.base" / COUNTER).read_text()


def test_an_edited_lesson_is_taken_over_with_its_outputs(fresh):
    """Cells of their own, and what the notebook showed them."""
    build(fresh / "chapters/ch91_second/lesson.py", fresh)
    path = fresh / "chapters/ch91_second/lesson.ipynb"
    content = json.loads(path.read_text())
    content["cells"][3]["source"] = "guess = 0.5"
    path.write_text(json.dumps(content))
    assert "took over chapters/ch91_second/lesson.ipynb, which you had edited" in start(fresh)
    assert (fresh / "my/ch91_second/lesson.ipynb").read_text() == path.read_text()


def test_the_progress_of_before_is_taken_over(fresh, change):
    """Hints and results count on, and the old file is gone."""
    body = '    raise NotImplementedError("ch91 exercise 2: Add up")\n    return result\n'
    change(f"chapters/{COUNTER}", (body, "    return sum(numbers)\n"))
    start(fresh)
    check("91.2", fresh)
    hint.next_hint("91.1", fresh)
    (fresh / "my/.progress.json").rename(fresh / ".progress.json")
    shutil.rmtree(fresh / "my")
    assert "took over your hints and results, now in my/.progress.json" in start(fresh)
    assert "91.2  Add up  **     7 min  hints 0/3  solved" in table(fresh)
    assert load_state(fresh).hints == {"91.1": 1} and not (fresh / ".progress.json").exists()


def test_what_a_learner_copies_from_solutions_runs_and_new_files_do(toy, edit, monkeypatch, capsys):
    """COURSE_CODE=mine means my/, file by file."""
    monkeypatch.setenv("COURSE_CODE", "mine")
    (toy / "my/ch90_first").mkdir()
    (toy / "my/ch90_first/step.py").write_text("from ch91_second.mine import STEP\n")
    (toy / "my/ch91_second/mine.py").write_text("STEP = 2\n")
    edit(
        '    """Count one step up."""\n        raise NotImplementedError("ch91 exercise 1: Count")',
        "    self.value += STEP",
    )
    check("91.1", toy)
    out = capsys.readouterr().out
    assert "Testing your code, in my/ (" in out and "after one up() the value is 2, not 1" in out


def test_a_second_start_brings_back_what_is_missing_and_changes_nothing_else(toy, edit, files):
    """A deleted file comes back as shipped; edits stay."""
    edit("    result = 0\n", "    result = 7\n")
    before = files()
    assert start(toy) == ["my/ is complete. To bring the course's changes there: make update"]
    (toy / "my" / COUNTER).unlink()
    assert start(toy) == [f"brought back my/{COUNTER}, as shipped"]
    assert files() == before | {COUNTER: before[f".base/{COUNTER}"]}


def test_a_folder_of_that_name_becomes_the_copy(fresh):
    """A my/ without a base: what is in it stays, what is missing comes, and the base is this release."""
    (fresh / "my/ch91_second").mkdir(parents=True)
    (fresh / "my" / COUNTER).write_text("mine\n")
    for command in (lambda: check("91", fresh), lambda: update(fresh)):
        with pytest.raises(UserError, match=r"^my/\.base/release\.json is not there; make start makes it, and leaves"):
            command()
    report = start(fresh)
    assert report[0].startswith(
        "my/.base/ was not complete: from now on, what differs from this release counts as yours"
    )
    assert report[1:] == ["brought back my/ch91_second/lesson.ipynb, as shipped"]
    assert (fresh / "my" / COUNTER).read_text() == "mine\n"
    assert update(fresh) == 0 and (fresh / "my" / COUNTER).read_text() == "mine\n"


def test_a_file_of_that_name_is_one_line(fresh):
    (fresh / "my").write_text("my notes")
    for command in (start, update, lambda root: check("91", root)):
        with pytest.raises(UserError, match="my is a file, and the folder of your exercises has that name; give"):
            command(fresh)
    assert (fresh / "my").read_text() == "my notes"


def test_a_record_that_cannot_be_read_is_one_line(toy):
    (toy / "my/.base/release.json").write_text("{")
    with pytest.raises(UserError, match=r"^my/\.base/release\.json cannot be read \(.*\); delete it, and call make"):
        check("91", toy)
    (toy / "my/.base/release.json").unlink()
    start(toy)
    assert check("91", toy) == 1


@pytest.mark.parametrize("call", range(5))
def test_a_full_disk_leaves_no_half_made_copy(fresh, monkeypatch, call):
    """At whichever file: one line, no my/, nothing beside it, and the progress of before still there."""
    (fresh / ".progress.json").write_text("{}")
    written = []
    write_bytes = files.Path.write_bytes

    def fill_up(self, content):
        written.append(self)
        if len(written) > call:
            write_bytes(self, content[:5])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(self, content)

    monkeypatch.setattr(files.Path, "write_bytes", fill_up)
    with pytest.raises(UserError, match="cannot write .*: No space left on device"):
        start(fresh)
    monkeypatch.undo()
    assert not (fresh / "my").exists() and not list(fresh.glob(".my*"))
    assert (fresh / ".progress.json").read_text() == "{}"
    assert start(fresh)[0].startswith("made my/") and load_state(fresh) == State()


def test_a_check_says_when_the_course_has_changed(toy, change, capsys):
    """Until make update has brought the changes."""
    note = "The course has changed since my/ was made: make update brings the changes there."
    check("91", toy)
    assert note not in capsys.readouterr().out
    change("solutions/ch91_second/counter.py", ("The sum.", "Their sum."))
    check("91", toy)
    assert note in capsys.readouterr().out
    update(toy)
    check("91", toy)
    assert note not in capsys.readouterr().out


def test_a_check_names_edits_in_chapters(toy, change, capsys):
    """A learner who writes there by habit is told where to write."""
    change(f"chapters/{COUNTER}", ("    result = 0\n", "    result = 7\n"))
    check("91", toy)
    said = f"There are edits in chapters/{COUNTER}, which does not run: what runs is my/{COUNTER}.\n"
    assert said in capsys.readouterr().out
