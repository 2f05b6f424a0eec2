"""Building a lesson's notebook: outputs without this machine's traces, and nothing half written."""

import json
import sys

import pytest

from toolkit.commands.exercises import lessons
from toolkit.commands.exercises.lessons import build, find_difference, is_edited
from toolkit.course import ROOT
from toolkit.errors import UserError

LESSON = f"""# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
# ---

# %% [markdown]
# # A lesson

# %%
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from toolkit.course import open_chapter
open_chapter("ch91", root=Path.cwd().parents[1])

# %%
from ch91_second.counter import total
print(Path.cwd())
total([1, 2])
"""


def test_build_then_a_lesson_that_fails(toy):
    """The notebook has outputs of the reference and relative paths; a failing lesson says so and changes nothing."""
    lesson = toy / "chapters/ch91_second/lesson.py"
    lesson.write_text(LESSON)
    assert find_difference(lesson) == "ch91_second/lesson.ipynb is missing"
    target = build(lesson, toy)
    assert find_difference(lesson) is None
    text = target.read_text()
    cells = json.loads(text)["cells"]
    assert [cell["id"] for cell in cells] == ["cell-0", "cell-1", "cell-2"]
    assert "the reference solutions" in cells[1]["outputs"][0]["text"][0]
    assert cells[2]["outputs"][0]["text"] == ["chapters/ch91_second\n"]
    assert cells[2]["outputs"][1]["data"]["text/plain"] == ["3"]
    assert not any(cell["metadata"] for cell in cells)

    lesson.write_text(LESSON.replace("total([1, 2])", "total([1, None])"))
    assert find_difference(lesson).startswith("ch91_second/lesson.ipynb: cell 3 is not that of lesson.py")
    with pytest.raises(UserError, match="(?s)ch91_second/lesson.py: a cell failed:.*TypeError"):
        build(lesson, toy)
    assert target.read_text() == text


@pytest.fixture
def notebook(toy, monkeypatch):
    """The toy lesson's notebook, built, and `lessons.main` set on the toy course; cells are not run a second time."""
    lesson = toy / "chapters/ch91_second/lesson.py"
    lesson.write_text(LESSON)
    monkeypatch.setattr(lessons, "execute", lessons.read_lesson)
    monkeypatch.setattr(lessons, "ROOT", toy)
    monkeypatch.setattr(lessons, "lesson_paths", lambda: [lesson])
    monkeypatch.setattr(lessons, "build", lambda lesson, root=toy: build(lesson, root))
    monkeypatch.setattr(lessons, "is_edited", lambda lesson, root=toy: is_edited(lesson, root))
    return build(lesson, toy)


def test_a_read_only_folder_is_said_before_any_cell_runs(notebook, monkeypatch):
    """One line names the notebook that cannot be written."""
    monkeypatch.setattr(lessons, "execute", lambda lesson: pytest.fail("was run"))
    monkeypatch.setattr(lessons.os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=f"cannot write {notebook}: its folder is read-only"):
        build(notebook.with_suffix(".py"), notebook.parents[2])


def rebuild(monkeypatch, *flags):
    monkeypatch.setattr(sys, "argv", ["lessons", *flags])
    assert lessons.main() == 0


def add_cell(path):
    cells = json.loads(path.read_text())
    cells["cells"].append({"cell_type": "markdown", "id": "mine", "metadata": {}, "source": ["my own notes"]})
    path.write_text(json.dumps(cells))


@pytest.mark.parametrize("newer", [False, True], ids=["same-lesson", "newer-lesson"])
def test_a_readers_cells_are_kept(notebook, newer, monkeypatch, capsys):
    """A notebook with an edited cell is not replaced, and one line says so and what to do; --overwrite replaces it."""
    add_cell(notebook)
    lesson = notebook.with_suffix(".py")
    lesson.write_text(LESSON.replace("# # A lesson", "# # A better lesson") if newer else LESSON)
    before = notebook.read_text()
    rebuild(monkeypatch)
    assert notebook.read_text() == before
    said = "kept chapters/ch91_second/lesson.ipynb, which was edited: rename it, or add --overwrite\n"
    assert capsys.readouterr().out == said
    rebuild(monkeypatch, "--overwrite")
    assert "my own notes" not in notebook.read_text() and find_difference(lesson) is None


def test_outputs_and_a_newer_lesson_are_no_edits(notebook, monkeypatch):
    """Running cells changes no cell; and a notebook as it was built gives way to a newer lesson."""
    cells = json.loads(notebook.read_text())
    cells["cells"][1].update(outputs=[], execution_count=7)
    notebook.write_text(json.dumps(cells))
    lesson = notebook.with_suffix(".py")
    lesson.write_text(LESSON.replace("# # A lesson", "# # A better lesson"))
    rebuild(monkeypatch)
    assert "A better lesson" in notebook.read_text()


def test_what_is_no_notebook_any_more_is_kept(notebook, monkeypatch, capsys):
    """A file that cannot be read is the reader's too."""
    notebook.write_text("half a noteb")
    rebuild(monkeypatch)
    assert notebook.read_text() == "half a noteb" and "kept" in capsys.readouterr().out
