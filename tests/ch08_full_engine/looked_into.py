"""What random loads ask of an engine between two steps, whichever parts it has."""

from collections.abc import Callable
from typing import Any

from toolkit.commands.soak.faults import Planted


def only_planted(recover: Callable[[Exception], None]) -> Callable[[Exception], None]:
    """A mistake of the engine's own, which it would get over, is a failure."""

    def checked(error: Exception) -> None:
        if not isinstance(error, Planted):
            raise error
        recover(error)

    return checked


def state_of(engine: Any) -> tuple[Any, ...]:
    scheduler = engine.scheduler
    running, waiting = ([r.request_id for r in queue] for queue in (scheduler.running, scheduler.waiting))
    return engine.num_steps, running, waiting, scheduler.blocks.num_free_blocks, scheduler.blocks.num_shared_tokens


def check_blocks(engine: Any) -> None:
    """Each block is free, or in the tables of those that run, and not both."""
    blocks, seats = engine.scheduler.blocks, getattr(engine.scheduler, "seats", None)
    tables = [
        request.block_table if seats is None else seats.tables[request.seat, : seats.num_blocks[request.seat]].tolist()
        for request in engine.scheduler.running
    ]
    free = [*blocks.free_blocks, *getattr(blocks, "reusable", ())]
    found = sorted(free + [*{block for table in tables for block in table}])
    assert found == [*range(blocks.num_blocks)], (
        f"of the blocks 0 to {blocks.num_blocks - 1} each is free or owned; free are {sorted(free)}, and the requests "
        f"that run own {tables}"
    )
