"""The machinery of planted mistakes, on the toy course: what counts as caught, and what does not."""

from dataclasses import replace

import pytest

from toolkit.commands.exercises.metadata import load
from toolkit.commands.exercises.mutants import find_escape, find_gap, load_mutants


@pytest.mark.parametrize(
    ("change", "escape"),
    [
        ({}, None),
        ({"new": "self.value -= STEP * 1"}, "is not caught: test_counter.py::test_down passes with it"),
        ({"says": "something else"}, "is caught, but the message does not say 'something else'"),
        ({"old": "STEP"}, "its old text occurs 3 times"),
        ({"exercise": "91.9"}, "there is no exercise 91.9"),
        ({"test": "test_counter.py::test_nowhere"}, "there is no test test_counter.py::test_nowhere"),
        ({"new": "self.value -= ("}, "the test not loaded: SyntaxError"),
    ],
)
def test_mutant_verdicts(toy, change, escape):
    """Caught means: the named test fails, in a readable file, with the message that was asked for."""
    (mutant,) = load_mutants(toy)
    verdict = find_escape(replace(mutant, **change), toy)
    assert verdict is None if escape is None else escape in verdict, verdict


def test_a_gate_names_tests_that_pass_without_the_exercise(toy):
    """A test that an unsolved exercise passes is reported by name."""
    exercise = load(toy)["91.2"]
    assert find_gap(exercise, toy) is None
    path = toy / "tests/ch91_second/test_counter.py"
    path.write_text(path.read_text() + '\n\n@pytest.mark.exercise("91.2")\ndef test_nothing():\n    """Empty."""\n')
    gap = find_gap(exercise, toy)
    assert "tests/ch91_second/test_counter.py::test_nothing: passed" in gap and "test_total" not in gap
