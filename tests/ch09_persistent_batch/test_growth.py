"""What the host does for a step hardly grows with the rows: counted in calls, which are the same on every machine."""

import pytest

from ch08_full_engine import FullEngine
from ch09_persistent_batch import PersistentEngine
from tests.counted_calls import BLOCK_SIZE, calls_per_step
from tests.simulated import needs_simulator

pytestmark = needs_simulator


def test_the_calls_of_a_step_do_not_grow_with_the_rows():
    """16 times the rows, the same calls. Chapter 8's engine, counted alike, makes eight times as many."""
    few, many = (calls_per_step(PersistentEngine, rows, prefix_sharing=False) for rows in (32, 512))
    assert many < 1.1 * few, f"{few:.0f} calls a step with 32 rows, {many:.0f} with 512"
    few, many = (calls_per_step(FullEngine, rows, prefix_sharing=False) for rows in (32, 512))
    assert many > 8 * few, f"chapter 8's engine: {few:.0f} calls with 32 rows, {many:.0f} with 512"


@pytest.mark.parametrize("rows", [32, 512])
def test_with_shared_prefixes_a_block_costs_something_once(rows: int):
    """A block is named when it is full: a few calls each, for one row in 16 a step."""
    shared, unshared = (calls_per_step(PersistentEngine, rows, prefix_sharing=each) for each in (True, False))
    per_block = (shared - unshared) / (rows / BLOCK_SIZE)
    assert per_block < 25, f"{per_block:.1f} calls for each block that is filled"
