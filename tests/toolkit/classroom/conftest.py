"""Reports of the toy course, and a toy course that has the toolkit in it, so that its checks run in a process."""

import shutil

import pytest

from toolkit.commands.classroom.report import report
from toolkit.commands.exercises.work import Work
from toolkit.course import ROOT

UP = '        """Count one step up."""\n'
DOWN = '        """Count one step down."""\n'
PLACEHOLDER = '        raise NotImplementedError("ch91 exercise 1: Count")\n'
TOTAL = '    raise NotImplementedError("ch91 exercise 2: Add up")\n'
PROJECT = '[project]\nname = "toy"\nversion = "1.2.3"\n'


@pytest.fixture
def class_toy(toy):
    """The toy course with a version."""
    settings = toy / "pyproject.toml"
    settings.write_text(PROJECT + settings.read_text())
    return toy


@pytest.fixture
def whole_toy(class_toy):
    """The toy course with the toolkit's own code in it."""
    shutil.copytree(
        ROOT / "toolkit",
        class_toy / "toolkit",
        ignore=shutil.ignore_patterns("__pycache__", "exercises.toml"),
        dirs_exist_ok=True,
    )
    return class_toy


@pytest.fixture
def solve(class_toy, edit):
    """Write the exercises of the toy course, rightly unless other lines are given."""

    def solve(up="self.value += STEP", down="self.value -= STEP", total="result = sum(numbers)"):
        edit(UP + PLACEHOLDER, f"{UP}        {up}\n")
        edit(DOWN + PLACEHOLDER, f"{DOWN}        {down}\n")
        edit(TOTAL, f"    {total}\n")

    return solve


@pytest.fixture
def hand_in(class_toy, tmp_path_factory):
    """Write a report as it is now into the folder of reports, which is returned; changes are those of the report."""
    folder = tmp_path_factory.mktemp("class") / "reports"
    folder.mkdir()

    def hand_in(file, name="Ada", with_code=True, **changes):
        made, _ = report(class_toy, name, with_code)
        changed = made.model_copy(update=changes)
        (folder / file).write_text(changed.model_dump_json(indent=1), encoding="utf-8")
        return folder

    return hand_in


@pytest.fixture
def work():
    return Work()
