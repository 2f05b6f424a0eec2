"""Every planted mistake of tests/*/mutants.toml is caught by the test it names, with a message that says why.

Each mutant runs in a process of its own; with `-n auto` several run side by side. `make test` plants the first two of
each exercise, `make test-long` the others.
"""

from collections import Counter

import pytest

from toolkit.commands.exercises.mutants import cannot_be_planted, find_escape, load_mutants

IN_MAKE_TEST = 2  # of each exercise


def marked() -> list:
    """The mutants as parameters, the later ones of each exercise marked as long."""
    seen: Counter[str] = Counter()
    parameters = []
    for mutant in load_mutants():
        seen[mutant.exercise] += 1
        marks = [pytest.mark.long] if seen[mutant.exercise] > IN_MAKE_TEST else []
        parameters.append(pytest.param(mutant, id=f"{mutant.chapter[:4]}-{mutant.name}", marks=marks))
    return parameters


def test_all_mutants_can_be_planted():
    """A comment in a solution that reads otherwise now may be part of what a mutant replaces."""
    assert [why for mutant in load_mutants() if (why := cannot_be_planted(mutant))] == []


@pytest.mark.parametrize("mutant", marked())
def test_mutant_is_caught(mutant):
    """The mutant's test fails with the message that the entry asks for."""
    escape = find_escape(mutant)
    assert escape is None, escape
