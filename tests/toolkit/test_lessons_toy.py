"""Building a lesson's notebook: outputs without this machine's traces, and nothing half written."""

import json

import pytest

from toolkit.course import ROOT
from toolkit.errors import UserError
from toolkit.exercises.lessons import build, find_difference

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
