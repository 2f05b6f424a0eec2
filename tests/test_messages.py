"""What a check shows is for the one who solves the exercise: its tests fail with sentences, never with bare values."""

import ast

import pytest

from toolkit.course import ROOT

FILES = sorted((ROOT / "tests").glob("ch*_*/test_*.py"))


def exercise_tests(text: str) -> list[ast.FunctionDef]:
    """The tests in a file that are marked with an exercise, each by itself or by the file's `pytestmark`."""
    tree = ast.parse(text)
    marks = [ast.unparse(each.value) for each in tree.body if isinstance(each, ast.Assign) and is_mark(each.targets[0])]
    tests = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")]
    return [test for test in tests if "exercise(" in " ".join([*marks, *map(ast.unparse, test.decorator_list)])]


def is_mark(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "pytestmark"


def without_words(test: ast.FunctionDef) -> list[int]:
    """The lines that can fail with nothing but a comparison, or with DID NOT RAISE."""
    bare = [each.lineno for each in ast.walk(test) if isinstance(each, ast.Assert) and each.msg is None]
    calls = [each for each in ast.walk(test) if isinstance(each, ast.Call)]
    return bare + [each.lineno for each in calls if ast.unparse(each.func) == "pytest.raises"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name[:4]}-{file.stem}")
def test_what_a_check_shows_is_a_sentence(file):
    """Every assert has a message, and an error that has to come is asked for with `must_raise`."""
    tests = exercise_tests(file.read_text(encoding="utf-8"))
    places = [f"{file.name}:{line}, in {test.name}" for test in tests for line in without_words(test)]
    assert not places, "without a message: " + "; ".join(places)


def test_marked_tests_are_found():
    """Marked one by one or all at once; what is not marked may be bare."""
    one = "@pytest.mark.exercise('1.1')\ndef test_a():\n    assert x\n\n\ndef test_b():\n    assert y\n"
    (test,) = exercise_tests(one)
    assert (test.name, without_words(test)) == ("test_a", [3])
    all_of_them = f"pytestmark = [pytest.mark.exercise('1.1')]\n\n\n{one}"
    assert [test.name for test in exercise_tests(all_of_them)] == ["test_a", "test_b"]
    (test,) = exercise_tests(one.replace("assert x", "with pytest.raises(KeyError):\n        x()").split("\n\n\n")[0])
    assert without_words(test) == [3]
    assert sum(len(exercise_tests(file.read_text(encoding="utf-8"))) for file in FILES) > 200
