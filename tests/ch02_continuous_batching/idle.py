"""What an engine without work looks like."""

from ch02_continuous_batching import Engine
from tests.words import counted


def assert_idle(engine: Engine) -> None:
    """An engine without work holds no block and no request (DESIGN 4, invariant 6)."""
    assert not engine.has_work
    blocks = engine.scheduler.blocks
    missing = blocks.num_blocks - blocks.num_free_blocks
    assert missing == 0, f"the engine is idle, but {counted(missing, 'block was', 'blocks were')} not given back"
    assert sorted(blocks.free_blocks) == list(range(blocks.num_blocks)), "a block is in the pool twice"
