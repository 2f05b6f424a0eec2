"""`make update` of lessons: merged by cell, or laid beside; what comes out is a notebook in any case."""

import json

import nbformat
import pytest

from toolkit.commands.learner.cells import merge_notebooks
from toolkit.commands.learner.update import update

NAME = "ch91_second/lesson.ipynb"
SOURCE = "chapters/ch91_second/lesson.py"
TEXT = "# A lesson\n\nText that explains."


def own(text, cell_id="3f2a"):
    return {"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": text}


@pytest.fixture
def worked_on(notebook):
    """The lesson as a learner leaves it: a guess, outputs, and notes of their own behind two cells."""

    def work(cells):
        cells[1].update(execution_count=1, outputs=[{"output_type": "stream", "name": "stdout", "text": "ran\n"}])
        cells[3].update(source="guess = 0.5", execution_count=2)
        cells.insert(2, own("my notes"))
        cells.append(own("last", "9c1d"))

    notebook(work)
    return notebook


def outputs(root):
    cells = json.loads((root / "my" / NAME).read_text())["cells"]
    return ["".join(output["text"]) for cell in cells for output in cell.get("outputs", [])]


def test_cells_of_both_sides_are_merged(course_with_lesson, change, worked_on, backups, capsys):
    """A changed text, a new cell and one that is gone from the course; guess, notes and outputs of the learner."""
    before = (course_with_lesson / "my" / NAME).read_text()
    change(SOURCE, ("Text that explains.", "Text that explains more."), ("\n# %% [markdown]\n# The end.\n", ""))
    change(SOURCE, ("# %%\nguess", "# %% [markdown]\n# A hint.\n\n# %%\nguess"))
    assert update(course_with_lesson) == 0
    question = "**Predict first.** How much is it?"
    assert worked_on() == [f"{TEXT[:-1]} more.", "import sys", "my notes", question, "A hint.", "guess = 0.5", "last"]
    assert outputs(course_with_lesson) == ["ran\n"]
    assert f"my/{NAME}: the course's changes are merged with yours" in capsys.readouterr().out
    assert backups()[NAME] == before
    nbformat.validate(nbformat.read(course_with_lesson / "my" / NAME, as_version=4))
    assert update(course_with_lesson) == 0 and worked_on()[2] == "my notes"


def test_merged_cells_are_known_to_the_next_update(course_with_lesson, change, worked_on):
    """Several releases, one after the other, with cells that come in between."""
    for number in range(3):
        change(SOURCE, ("# %% [markdown]\n# **Predict", f"# %%\nprint({number})\n\n# %% [markdown]\n# **Predict"))
        change(SOURCE, ("The end", "The end!"))
        assert update(course_with_lesson) == 0
    assert worked_on()[2:] == [
        "my notes",
        *(f"print({number})" for number in range(3)),
        "**Predict first.** How much is it?",
        "guess = 0.5",
        "The end!!!.",
        "last",
    ]


def test_both_changed_a_cells_text(course_with_lesson, change, notebook):
    """Other lines of it: both changes are in."""
    notebook(lambda cells: cells[0].update(source="# A lesson\n\nText that explains.\n\nI see."))
    change(SOURCE, ("# # A lesson", "# # A good lesson"))
    assert update(course_with_lesson) == 0
    assert notebook()[0] == "# A good lesson\n\nText that explains.\n\nI see."


@pytest.mark.parametrize(
    "edit",
    [
        lambda cells: cells[3].update(source="guess = 0.5"),
        lambda cells: cells.insert(0, cells.pop(3)),
    ],
    ids=["the same line", "another order"],
)
def test_what_cannot_be_merged_is_laid_beside(course_with_lesson, change, notebook, edit, backups, capsys):
    """The learner's stays byte by byte, the new one is beside it, and both are notebooks."""
    notebook(edit)
    before = (course_with_lesson / "my" / NAME).read_bytes()
    change(SOURCE, ("guess = None", "guess = ..."))
    assert update(course_with_lesson) == 1
    beside = course_with_lesson / "my/ch91_second/lesson.new.ipynb"
    assert (course_with_lesson / "my" / NAME).read_bytes() == before
    assert [cell.source for cell in nbformat.read(beside, as_version=4).cells][3] == "guess = ..."
    assert "<<<<<<<" not in beside.read_text() + before.decode()
    said = f"my/ch91_second/lesson.new.ipynb: my/{NAME} is as you left it, and this is the course's: they cannot"
    assert said in capsys.readouterr().out

    kept = backups()
    assert update(course_with_lesson) == 1 and backups() == kept, "it is still to be decided"
    assert beside.is_file() and (course_with_lesson / "my" / NAME).read_bytes() == before
    beside.replace(course_with_lesson / "my" / NAME)
    assert update(course_with_lesson) == 0 and not beside.exists()


def test_what_is_no_notebook_any_more_stays(course_with_lesson, change):
    """The course's lesson is laid beside."""
    path = course_with_lesson / "my" / NAME
    path.write_text("half a noteb")
    change(SOURCE, ("The end", "The very end"))
    assert update(course_with_lesson) == 1
    assert path.read_text() == "half a noteb" and path.with_name("lesson.new.ipynb").is_file()


def test_an_executed_lesson_is_brought_up_to_date_with_its_outputs(course_with_lesson, change, notebook):
    """Those of cells that the course has changed are gone, all others stay."""

    def run(cells):
        for cell in (cells[1], cells[3]):
            cell.update(outputs=[{"output_type": "stream", "name": "stdout", "text": cell["source"][0]}])

    notebook(run)
    change(SOURCE, ("guess = None", "guess = ..."))
    assert update(course_with_lesson) == 0
    assert notebook()[3] == "guess = ..." and outputs(course_with_lesson) == ["import sys"]


def test_an_editor_that_gives_cells_other_ids_does_no_harm(course_with_lesson, change, worked_on):
    """Cells are found by their text then."""

    def renamed(cells):
        for number, cell in enumerate(cells):
            cell["id"] = f"other-{number}"

    worked_on(renamed)
    change(SOURCE, ("Text that explains.", "Text that explains more."), ("guess = None", "guess = None  # a number"))
    assert update(course_with_lesson) == 1, "the guess is a conflict"
    change(SOURCE, ("guess = None  # a number", "guess = None"))
    assert update(course_with_lesson) == 0
    assert worked_on()[0] == f"{TEXT[:-1]} more." and worked_on()[2:5:2] == ["my notes", "guess = 0.5"]


def test_what_either_side_deletes_is_gone_and_what_the_other_has_changed_in_it_is_not():
    """An edited cell outlives the course's deletion; a deleted cell comes back with the course's change of it."""

    def notebook(*texts):
        cells = [nbformat.v4.new_markdown_cell(text, id=f"cell-{number}") for number, text in texts]
        return nbformat.writes(nbformat.v4.new_notebook(cells=cells))

    def merged(mine, new):
        text = merge_notebooks(notebook((0, "a a a"), (1, "b b b"), (2, "c c c")), mine, new)
        return [cell.source for cell in nbformat.reads(text, as_version=4).cells]

    same = notebook((0, "a a a"), (1, "b b b"), (2, "c c c"))
    assert merged(notebook((0, "a a a"), (2, "c c c")), same) == ["a a a", "c c c"]
    assert merged(same, notebook((0, "a a a"), (1, "c c c"))) == ["a a a", "c c c"]
    assert merged(notebook((0, "a a a"), (1, "b b !"), (2, "c c c")), notebook((0, "a a a"), (1, "c c c"))) == [
        "a a a",
        "b b !",
        "c c c",
    ]
    assert merged(notebook((0, "a a a"), (2, "c c c")), notebook((0, "a a a"), (1, "b b ?"), (2, "c c c"))) == [
        "a a a",
        "b b ?",
        "c c c",
    ]


def test_a_lesson_follows_its_chapters_new_name(course_with_lesson, worked_on, files):
    """The folder is named otherwise: the lesson's edits go along."""
    for room in ("solutions", "chapters", "tests"):
        (course_with_lesson / room / "ch91_second").rename(course_with_lesson / room / "ch91_last")
    assert update(course_with_lesson) == 0
    assert b"my notes" in files()["ch91_last/lesson.ipynb"] and NAME not in files()
