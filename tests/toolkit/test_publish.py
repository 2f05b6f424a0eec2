"""Where the course is published: said in one place, shown as badges, and used by the lessons' cells for Colab."""

import re
import shutil
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml

from toolkit import bootstrap_beside
from toolkit.commands.exercises import colab
from toolkit.commands.exercises.lessons import find_difference, lesson_paths, read_lesson
from toolkit.commands.publish import publish
from toolkit.course import ROOT
from toolkit.errors import UserError

ADDRESS = "https://github.com/somebody/course"


@pytest.fixture
def copy(tmp_path):
    """What publishing writes to, with two lessons."""
    for name in ("pyproject.toml", "CITATION.cff", "README.md", "chapters/.lessons.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for lesson in lesson_paths()[:2]:
        for suffix in (".py", ".ipynb"):
            target = tmp_path / lesson.relative_to(ROOT).with_suffix(suffix)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(lesson.with_suffix(suffix), target)
    return tmp_path


def test_the_address_is_written_wherever_it_is_needed(copy):
    publish(ADDRESS, copy)
    assert tomllib.loads((copy / "pyproject.toml").read_text())["project"]["urls"] == {"repository": ADDRESS}
    assert yaml.safe_load((copy / "CITATION.cff").read_text())["repository-code"] == ADDRESS
    readme = (copy / "README.md").read_text()
    assert readme.startswith((ROOT / "README.md").read_text().partition("\n")[0] + "\n\n<!-- badges -->")
    assert readme.count("colab.research.google.com/github/somebody/course/blob/main/chapters/ch0") == 2


def test_lessons_get_two_cells_and_keep_their_outputs(copy):
    before = {lesson: nbformat.read(lesson.with_suffix(".ipynb"), as_version=4).cells for lesson in lesson_paths(copy)}
    publish(ADDRESS, copy)
    for lesson, cells in before.items():
        now = nbformat.read(lesson.with_suffix(".ipynb"), as_version=4).cells
        assert "Open in Colab" in now[0].source and f'"{ADDRESS}"' in now[1].source
        assert [cell.get("outputs") for cell in now[2:]] == [cell.get("outputs") for cell in cells]
        assert find_difference(lesson) is None


def test_publishing_elsewhere_replaces_the_address(copy):
    publish("https://github.com/an/earlier", copy)
    publish(ADDRESS, copy)
    for name in ("pyproject.toml", "CITATION.cff", "README.md"):
        text = (copy / name).read_text()
        assert "an/earlier" not in text and ADDRESS in text
    assert len(nbformat.read(lesson_paths(copy)[0].with_suffix(".ipynb"), as_version=4).cells) == 2 + len(
        read_lesson(lesson_paths()[0]).cells
    )


def test_what_is_no_address_is_one_line(copy):
    with pytest.raises(UserError, match="is no address such as https://github.com/OWNER/NAME"):
        publish("github.com/somebody", copy)
    assert (copy / "README.md").read_text() == (ROOT / "README.md").read_text()


def test_without_an_address_there_are_no_such_cells(tmp_path):
    assert colab.address(tmp_path) is None and colab.cells("ch00_measuring", tmp_path) == []


def test_the_set_up_cell_does_nothing_elsewhere():
    """It runs in lessons on every machine."""
    code = colab.SET_UP.format(address=ADDRESS, chapter="ch00_measuring")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- beside what a host has ---


def test_wanted_are_all_packages_of_a_learner_without_pins():
    asked = bootstrap_beside.wanted(ROOT)
    assert {"torch>=2.11,<2.14", "transformers>=5.17", "numpy", "bokeh", "pytest"} <= set(asked)
    assert not any("==" in each for each in asked) and "jupyterlab" not in asked
    named = {re.split(r"[<>=]", each)[0] for each in asked} | bootstrap_beside.FOR_DEVELOPERS
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.M)
    assert named == set(pinned)


def test_all_that_is_there_becomes_a_constraint():
    constraints = bootstrap_beside.installed()
    assert any(re.fullmatch(r"torch==2\.\d+\.\d+\S*", each) for each in constraints)
    assert any(each.startswith("numpy==") for each in constraints)
    assert not any(each.startswith(("transformers==", "tokenizers==")) for each in constraints)


def test_what_does_not_fit_is_said(tmp_path):
    """pip's own reason, and nothing was installed."""
    failure = bootstrap_beside.install(["pytest==0.0.1"], bootstrap_beside.installed())
    assert failure is not None and failure.startswith("ERROR")
