"""The toy course with a lesson, and a way to make another release of it."""

import json

import pytest

from toolkit.commands.learner.update import update

LESSON = """# %% [markdown]
# # A lesson
#
# Text that explains.

# %%
import sys

# %% [markdown]
# **Predict first.** How much is it?

# %%
guess = None

# %% [markdown]
# The end.
"""


@pytest.fixture
def course_with_lesson(toy):
    """The toy course, whose second chapter has a lesson, and my/ with it."""
    (toy / "chapters/ch91_second/lesson.py").write_text(LESSON)
    update(toy)
    return toy


@pytest.fixture
def change(toy):
    """Replace text in a file of the course; the old text must be there."""

    def replace(name, *pairs):
        path = toy / name
        text = path.read_text()
        for old, new in pairs:
            assert old in text, old
            text = text.replace(old, new)
        path.write_text(text)

    return replace


@pytest.fixture
def files(toy):
    """Every file of my/ but backups, as bytes by its path; called again, they are read again."""

    def read():
        paths = (path for path in (toy / "my").rglob("*") if path.is_file() and ".backup" not in path.parts)
        return {path.relative_to(toy / "my").as_posix(): path.read_bytes() for path in paths}

    return read


@pytest.fixture
def backups(toy):
    """Path inside my/ -> text of what the backups hold, the oldest first."""

    def read():
        folders = sorted((toy / "my/.backup").glob("*"))
        return {
            path.relative_to(folder).as_posix(): path.read_text()
            for folder in folders
            for path in folder.rglob("*")
            if path.is_file()
        }

    return read


@pytest.fixture
def notebook(course_with_lesson):
    """Reads, edits and writes the learner's lesson: called with a function that is given the cells."""
    path = course_with_lesson / "my/ch91_second/lesson.ipynb"

    def edit(with_cells=lambda cells: None):
        content = json.loads(path.read_text())
        with_cells(content["cells"])
        path.write_text(json.dumps(content))
        return ["".join(cell["source"]) for cell in content["cells"]]

    return edit
