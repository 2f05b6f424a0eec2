"""The double gate: every exercise fails as shipped with its own message (here) and every solution passes (all tests).

Fresh stubs are what is tested, so a learner's edits in my/ change nothing.
"""

import pytest

from toolkit.commands.exercises.metadata import load, validate
from toolkit.commands.exercises.mutants import find_gap

EXERCISES = load()


def test_metadata_solutions_and_tests_agree():
    """Every region belongs to an exercise, every exercise has its functions, three hints and at least one test."""
    problems = validate(EXERCISES)
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=list(EXERCISES))
def test_unsolved_exercise_fails_with_its_own_message(exercise):
    """With this one exercise unsolved, each of its tests fails with the exercise's message."""
    gap = find_gap(exercise)
    assert gap is None, gap
