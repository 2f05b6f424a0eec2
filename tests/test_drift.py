"""What is generated is up to date with what it is generated from.

The manifest is compared always. Files in chapters/ may hold edits from before there was my/, and notebooks are run, so
these are compared only where the environment variable CI is set.
"""

import os

import pytest

from toolkit.commands.exercises.generate import find_drift
from toolkit.commands.exercises.lessons import find_difference, lesson_paths

ON_CI = bool(os.environ.get("CI"))
LESSONS = lesson_paths()


def test_exercise_files_are_generated_from_the_solutions():
    """chapters/ was generated from solutions/ as they are now."""
    drift = find_drift(on_disk=ON_CI)
    assert not drift, "run `make exercises` and commit the result:\n" + "\n".join(drift)


@pytest.mark.skipif(not ON_CI, reason="a reader may change notebooks; compared where CI is set")
@pytest.mark.parametrize("lesson", LESSONS, ids=[lesson.parent.name for lesson in LESSONS])
def test_notebooks_have_the_cells_of_their_lesson(lesson):
    """Each lesson.ipynb has the same cells as its lesson.py."""
    difference = find_difference(lesson)
    assert difference is None, f"{difference}; run `make lessons` and commit the result"
