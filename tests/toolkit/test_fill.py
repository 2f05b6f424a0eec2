"""The reference can stand in for every exercise of the course while it is unsolved."""

import importlib
import shutil

import pytest

from toolkit import course
from toolkit.commands.exercises.generate import fresh_files
from toolkit.commands.exercises.metadata import load
from toolkit.fill import find_function

EXERCISES = load()


@pytest.fixture
def untouched(tmp_path, restore_choice):
    """The course as a learner first has it, with freshly generated exercise files."""
    shutil.copytree(course.ROOT / "solutions", tmp_path / "solutions")
    for name, text in fresh_files().items():
        path = tmp_path / "my" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_every_unsolved_function_gets_the_references_code(untouched, capsys):
    """With all exercises unsolved, each exercise function runs code of solutions/, after a line that says so."""
    course.use("mine", fill=True, root=untouched)
    gaps = [exercise for exercise in EXERCISES.values() if not exercise.is_bug]
    for exercise in gaps:
        module = importlib.import_module(f"{exercise.chapter}.{exercise.file.removesuffix('.py')}")
        for name in exercise.functions:
            code = find_function(module, name).__code__
            assert code.co_filename.startswith(str(untouched / "solutions")), f"{exercise.id}: {name} was not filled"
    lines = capsys.readouterr().out.splitlines()
    for exercise in gaps:
        start = f"{exercise.message.partition(':')[0]} ({exercise.file}, "
        (line,) = (line for line in lines if line.startswith(start))
        assert all(name in line for name in exercise.functions)
        assert f"is not solved yet; the reference solution stands in. Open {exercise.path}, line " in line
