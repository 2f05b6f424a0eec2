"""Whatever comes, in any order: the engine's tokens are those of `generate`, and nothing is left over."""

import pytest

from tests.ch08_full_engine.loads import Load, run_loads
from tests.simulated import needs_simulator

pytestmark = needs_simulator
KINDS = ("length", "eos", "stop", "cancelled", "error", "preempted", "shared")


def test_a_few_loads():
    run_loads(Load, 12, always_the_same=True)


@pytest.mark.long
def test_many_loads():
    """Each way to end occurs in them, and preemption and sharing, too."""
    met = run_loads(Load, 100, always_the_same=True)
    missing = [what for what in KINDS if not met[what]]
    assert not missing, f"in all these loads there was none of {missing}: {dict(met)}"


@pytest.mark.long
def test_any_load():
    """New loads at every run."""
    run_loads(Load, 200, always_the_same=False)
