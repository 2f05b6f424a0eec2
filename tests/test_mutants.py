"""Every planted mistake of tests/*/mutants.toml is caught by the test it names, with a message that says why.

Each mutant runs in a process of its own; with `-n auto` several run side by side.
"""

import pytest

from toolkit.commands.exercises.mutants import find_escape, load_mutants

MUTANTS = load_mutants()


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{mutant.chapter[:4]}-{mutant.name}" for mutant in MUTANTS])
def test_mutant_is_caught(mutant):
    """The mutant's test fails with the message that the entry asks for."""
    escape = find_escape(mutant)
    assert escape is None, escape
