"""Every lesson runs from top to bottom as a notebook, on the CPU, with the tiny model and the reference solutions."""

import shutil

import pytest

from toolkit.commands.exercises.lessons import execute, lesson_paths
from toolkit.course import ROOT

# `make test` runs these, `make test-long` the others too.
SHORT = (
    "ch00_measuring",
    "ch01_naive_loop",
    "ch02_continuous_batching",
    "ch03_streams",
    "ch04_events",
    "ch08_full_engine",
)
LESSONS = [
    pytest.param(path, id=path.parent.name, marks=[] if path.parent.name in SHORT else [pytest.mark.long])
    for path in lesson_paths()
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what a lesson needs, so that nothing it writes lands in the repository."""
    root = tmp_path_factory.mktemp("course")
    for name in ("toolkit", "solutions", "chapters", "figures"):
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", "local")
            shutil.copytree(ROOT / name, root / name, ignore=ignore)
    return root


@pytest.mark.parametrize("lesson", LESSONS)
def test_lesson_runs(lesson, copy):
    """No cell raises, every code cell is reached, and the first one says that the reference solutions run."""
    notebook = execute(copy / lesson.relative_to(ROOT), {"MODEL": "tiny", "HF_HUB_OFFLINE": "1"})
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code), "some code cells were not executed"
    first = "".join(output.get("text", "") for output in code[0].outputs)
    assert "the reference solutions" in first, f"the first cell must call open_chapter; it printed {first!r}"
