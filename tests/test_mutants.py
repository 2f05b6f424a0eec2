"""Every planted mistake of tests/*/mutants.toml is caught by the test it names, with a message that says why.

Each mutant runs in a process of its own; with `-n auto` several run side by side. `make test` plants the first two of
each exercise, `make test-long` the others.
"""

from collections import Counter

import pytest

from toolkit.commands.exercises.mutants import find_escape, load_mutants

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


@pytest.mark.parametrize("mutant", marked())
def test_mutant_is_caught(mutant):
    """The mutant's test fails with the message that the entry asks for."""
    escape = find_escape(mutant)
    assert escape is None, escape
