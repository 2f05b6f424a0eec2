"""Whatever comes, in any order: the engine's tokens are those of `generate`, and nothing is left over."""

import pytest

from tests.ch08_full_engine.loads import Load, run_loads
from tests.simulated import needs_simulator

MANY = 200
KINDS = ("length", "eos", "stop", "cancelled", "error", "preempted", "shared")


@needs_simulator
@pytest.mark.parametrize("examples", [12, pytest.param(MANY, marks=pytest.mark.long)])
def test_any_load(examples: int):
    """In many loads each way to end occurs, and preemption and sharing, too. A few need not meet everything."""
    met = run_loads(Load, examples, always_the_same=examples < MANY)
    missing = [what for what in KINDS if not met[what]]
    assert examples < MANY or not missing, f"in all these loads there was none of {missing}: {dict(met)}"
