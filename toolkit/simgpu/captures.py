"""What is written down while a stream captures a graph."""

from collections.abc import Callable, Sequence

from toolkit.simgpu.blocks import Block, Footprint
from toolkit.simgpu.memory import Pool
from toolkit.simgpu.queues import Queue
from toolkit.simgpu.sites import caller_site


class Capture:
    """What is written down while a stream captures.

    Attributes:
        allocated: the blocks (and their generations) of tensors made in the capture.
    """

    def __init__(self, stream: Queue, pool: Pool) -> None:
        self.stream, self.pool = stream, pool
        self.site = caller_site()
        self.allocated: set[tuple[Block, int]] = set()
        self.work: list[Callable[[], object]] = []
        self.reads: dict[object, Footprint] = {}
        self.writes: dict[object, Footprint] = {}
        self.cost_ms = 0.0

    def add(
        self,
        stream: Queue,
        name: str,
        work: Callable[[], object],
        reads: Sequence[Footprint],
        writes: Sequence[Footprint],
        cost_ms: float,
    ) -> None:
        if stream is not self.stream:
            raise NotImplementedError(
                f"simgpu: {name} on {stream.name} while {self.stream.name} captures a graph: one stream per capture"
            )
        self.work.append(work)
        self.cost_ms += cost_ms
        for footprints, kept in ((reads, self.reads), (writes, self.writes)):
            for each in footprints:
                kept[each.block, each.generation, each.region.key] = each

    def comes_from_outside(self, footprint: Footprint) -> bool:
        return (footprint.block, footprint.generation) not in self.allocated
