"""What is written down while streams capture a graph.

A capture begins on one stream. Another stream joins it by waiting for an event that was recorded in it (a fork), and
the first one must have waited for it again when the capture ends (the join). Streams that take no part go on working.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from toolkit.simgpu.blocks import Footprint
from toolkit.simgpu.errors import CaptureError
from toolkit.simgpu.memory import Pool
from toolkit.simgpu.ordering import Actor
from toolkit.simgpu.queues import Queue
from toolkit.simgpu.sites import Site, caller_site


class Launch(NamedTuple):
    """An operation of a graph. `branch` is the place of its stream among those of the capture, 0 for the first."""

    branch: int
    name: str
    site: Site
    work: Callable[[], object]
    reads: Sequence[Footprint]
    writes: Sequence[Footprint]
    engine: str
    cost_ms: float


class Point(NamedTuple):
    """A point in a branch, behind all its operations so far; what an event remembers that is recorded in a capture."""

    branch: int
    number: int
    knows: dict[Actor, int]


class Join(NamedTuple):
    """From here on the operations of `branch` come after the point of that number."""

    branch: int
    number: int


class Capture:
    """What is written down while streams capture.

    Args:
        mode: "global", "thread_local" or "relaxed": whose waits for the device are refused meanwhile, those of all
            threads or of this one. (CUDA permits more in "relaxed"; here it is "thread_local".)

    Attributes:
        streams: those that take part, the one where it began first.
        tape: what was issued, in order.
    """

    def __init__(self, stream: Queue, pool: Pool, mode: str) -> None:
        if mode not in ("global", "thread_local", "relaxed"):
            raise ValueError(f"unknown capture error mode {mode!r}")
        self.pool, self._mode, self._thread = pool, mode, threading.get_ident()
        self.site = caller_site()
        self.streams = [stream]
        self._branches = [Actor(stream.name)]
        self.tape: list[Launch | Point | Join] = []
        self.reads: dict[object, Footprint] = {}
        self.writes: dict[object, Footprint] = {}
        self._points = 0

    def captures(self, stream: Queue) -> bool:
        """Does a stream take part?"""
        return stream in self.streams

    def forbids_waits(self) -> bool:
        """Must this thread not wait for the device now?"""
        return self._mode == "global" or threading.get_ident() == self._thread

    def add(
        self,
        stream: Queue,
        name: str,
        work: Callable[[], object],
        reads: Sequence[Footprint],
        writes: Sequence[Footprint],
        engine: str,
        cost_ms: float,
    ) -> None:
        branch = self.streams.index(stream)
        self._branches[branch].count_operation()
        self.tape.append(Launch(branch, name, caller_site(), work, reads, writes, engine, cost_ms))
        for footprints, kept in ((reads, self.reads), (writes, self.writes)):
            for each in footprints:
                kept[each.block, each.generation, each.region.key] = each

    def record(self, stream: Queue) -> Point:
        """The point behind everything captured on `stream` so far."""
        branch = self.streams.index(stream)
        self._points += 1
        point = Point(branch, self._points, dict(self._branches[branch].knows))
        self.tape.append(point)
        return point

    def wait(self, stream: Queue, point: Point) -> None:
        """What `stream` captures from now on comes after `point`; with it the stream joins the capture."""
        if stream not in self.streams:
            self.streams.append(stream)
            self._branches.append(Actor(stream.name))
        branch = self.streams.index(stream)
        self._branches[branch].learn(point.knows)
        self.tape.append(Join(branch, point.number))

    def end(self) -> None:
        """Check that the first stream has waited for all work of the others.

        Raises:
            CaptureError: it has not.
        """
        first = self._branches[0]
        for each in self._branches[1:]:
            if first.knows.get(each, 0) < each.knows.get(each, 0):
                raise CaptureError(
                    f"capturing stream has unjoined work: {first.name} must wait for {each.name} before the capture "
                    "ends (cudaErrorStreamCaptureUnjoined)"
                )

    def comes_from_outside(self, footprint: Footprint) -> bool:
        """Is it no memory of the graph's pool, which stays the graph's when its tensor is gone?"""
        return footprint.block not in self.pool.blocks
