"""Every planted mistake of tests/*/mutants.toml is caught by the test it names, with a message that says why.

Each mutant runs in a process of its own, so several run side by side, and the tests below only wait for their verdicts.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolkit.commands.exercises.mutants import find_escape, load_mutants

MUTANTS = load_mutants()


@pytest.fixture(scope="module")
def verdicts(request):
    """Mutant -> future of what `find_escape` says, for the mutants that this run of pytest asks for."""
    wanted = [item.callspec.params["mutant"] for item in request.session.items if item.path == request.node.path]
    pool = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 4))
    yield {mutant: pool.submit(find_escape, mutant) for mutant in wanted}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", MUTANTS, ids=[f"{mutant.chapter[:4]}-{mutant.name}" for mutant in MUTANTS])
def test_mutant_is_caught(mutant, verdicts):
    """The mutant's test fails with the message that the entry asks for."""
    escape = verdicts[mutant].result()
    assert escape is None, escape
