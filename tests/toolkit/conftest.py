"""A course of two made-up chapters, small enough to see through, on which the exercise tooling is tested."""

import sys

import pytest

from toolkit import course
from toolkit.commands.exercises import generate
from toolkit.commands.learner import start

SOLUTION = '''"""A counter."""

from ch90_first.step import STEP


class Counter:
    """Counts in steps."""

    def __init__(self):
        self.value = 0

    def up(self):
        """Count one step up."""
        # BEGIN SOLUTION 91.1
        self.value += STEP
        # END SOLUTION

    def down(self):
        """Count one step down."""
        # BEGIN SOLUTION 91.1
        self.value -= STEP
        # END SOLUTION


def total(numbers):
    """The sum."""
    result = 0
    # BEGIN SOLUTION 91.2
    for number in numbers:
        result += number
    # END SOLUTION
    return result
'''

TESTS = '''"""Toy tests."""
import pytest
from ch91_second.counter import Counter, total


@pytest.mark.exercise("91.1")
def test_up():
    """Counting up adds a step. More text."""
    counter = Counter()
    counter.up()
    assert counter.value == 1, f"after one up() the value is {counter.value}, not 1"


@pytest.mark.exercise("91.1")
def test_down():
    """Counting down takes a step away."""
    counter = Counter()
    counter.down()
    assert counter.value == -1


@pytest.mark.exercise("91.2")
@pytest.mark.parametrize("numbers", [[1], [1, 2], [1, 2, 3]])
def test_total(numbers):
    """The total is the sum."""
    assert total(numbers) == sum(numbers), f"the total of {numbers} is {total(numbers)}"


def test_everything():
    """Counter and total work together."""
    counter = Counter()
    counter.up()
    assert total([counter.value, 2]) == 3
'''

TOML = """
[exercise."91.1"]
title = "Count"
file = "counter.py"
functions = ["Counter.up", "Counter.down"]
difficulty = 1
minutes = 5
lines = 2
hints = ["nudge", "closer", "answer"]

[exercise."91.2"]
title = "Add up"
file = "counter.py"
functions = ["total"]
difficulty = 2
minutes = 7
lines = 2
hints = ["n", "c", "a"]
"""

MUTANTS = """
[[mutant]]
name = "down_goes_up"
exercise = "91.1"
file = "counter.py"
old = "self.value -= STEP"
new = "self.value += STEP"
test = "test_counter.py::test_down"
says = "assert 1 == -1"
"""

FILES = {
    "pyproject.toml": '[tool.pytest.ini_options]\nmarkers = ["exercise(id): an exercise", "overlap: about one"]\n',
    "toolkit/commands/exercises/exercises.toml": TOML,
    "solutions/ch90_first/__init__.py": '"""First."""\n',
    "solutions/ch90_first/step.py": "STEP = 1\n",
    "solutions/ch91_second/__init__.py": '"""Second."""\n',
    "solutions/ch91_second/counter.py": SOLUTION,
    "tests/ch91_second/test_counter.py": TESTS,
    "tests/ch91_second/mutants.toml": MUTANTS,
}


@pytest.fixture
def restore_choice():
    """Puts back, after the test, whose code runs and the chapters that were imported."""
    before = course.current()
    modules = {name: module for name, module in sys.modules.items() if name.startswith("ch")}
    yield
    course.use(before.code, before.chapter, before.fill, root=before.root, overlay=before.overlay)
    sys.modules.update(modules)


@pytest.fixture
def toy(tmp_path, monkeypatch, restore_choice):
    """The root of the toy course, its chapters/ freshly generated, and my/ just made."""
    monkeypatch.delenv("COURSE_CODE", raising=False)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    generate.generate(tmp_path, may_replace=lambda path: False)
    start.make(tmp_path)
    return tmp_path


@pytest.fixture
def edit(toy):
    """Replace text in the learner's counter.py; the old text must be there."""

    def replace(old, new):
        path = toy / "my/ch91_second/counter.py"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return replace
