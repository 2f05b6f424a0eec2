"""The virtual clock: when things would have happened on a GPU, the same on every machine.

The host's time moves on by the price of every call and by `host_work`. The device has three engines that work at the
same time, each on one operation after another: one for compute and one for each direction of copies. An operation
starts when the host has launched it, its stream has come that far, and its engine has a free slot. (`sleep` needs no
engine: on a GPU it is a single thread, beside which everything else runs.)

All figures are milliseconds of *simulated* time. They come from the prices below, not from any measurement.
"""

import bisect
from dataclasses import dataclass, field
from typing import NamedTuple

from toolkit.simgpu.sites import Site

ENGINES = ("compute", "h2d", "d2h")


@dataclass(frozen=True)
class Costs:
    """What things cost, in ms. The defaults are round figures in the range of a current data-centre GPU.

    `fixed` overrides the price of operations by name ("mm", "H2D copy", "D2H copy", "item", ...).
    """

    launch_ms: float = 0.005  # the host's time for one launch
    call_ms: float = 0.001  # the host's time for query(), record(), wait_event() or a synchronisation
    kernel_ms: float = 0.005  # the shortest kernel
    device_bytes_per_ms: float = 2e9  # 2 TB/s
    copy_ms: float = 0.010  # the shortest copy between host and device
    copy_bytes_per_ms: float = 25e6  # 25 GB/s
    fixed: dict[str, float] = field(default_factory=dict)

    def of(self, name: str, engine: str, nbytes: int) -> float:
        """The time, in ms, that operation `name` occupies `engine` when it touches `nbytes` bytes."""
        if name in self.fixed:
            return self.fixed[name]
        if engine == "compute":
            return self.kernel_ms + nbytes / self.device_bytes_per_ms
        return self.copy_ms + nbytes / self.copy_bytes_per_ms


class Touched(NamedTuple):
    """What an operation does to memory, for a timeline.

    Attributes:
        reads, writes: in words.
        owner: what the IO buffers among it belong to at that time, such as "the buffers of batch 3"; or "".
        buffers: the number of this set of IO buffers, which no other set has; None if it touches none.
    """

    reads: str
    writes: str
    owner: str = ""
    buffers: int | None = None


@dataclass(frozen=True)
class Span:
    """One bar of a timeline: what, in which lane (a stream's name, or "host"), from when to when in ms.

    `touched`: what work of the device does to memory. `site`: the line that launched it, or that waits. None where
    there is no such thing.
    """

    name: str
    lane: str
    start: float
    end: float
    touched: Touched | None = None
    site: Site | None = None


class _Engine:
    """The busy intervals of one engine, sorted, so that work that is ready early can use an earlier gap."""

    def __init__(self) -> None:
        self.busy: list[tuple[float, float]] = []

    def book(self, ready: float, duration: float, now: float) -> float:
        """Reserve the first gap of `duration` ms that starts at `ready` or later; returns its start."""
        while self.busy and self.busy[0][1] <= now:
            self.busy.pop(0)  # nothing launched from now on can start back there
        start = ready
        for busy_start, busy_end in self.busy:
            if start + duration <= busy_start:
                break
            start = max(start, busy_end)
        self._reserve(start, start + duration)
        return start

    def _reserve(self, start: float, end: float) -> None:
        """Insert an interval that fits, joined with the one before it if they touch, to keep the list short."""
        place = bisect.bisect(self.busy, (start, end))
        if place and self.busy[place - 1][1] == start:
            self.busy[place - 1] = (self.busy[place - 1][0], end)
        else:
            self.busy.insert(place, (start, end))


class Clock:
    """The host's time, the engines, and the spans recorded so far."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self.now = 0.0
        self.spans: list[Span] = []
        self._engines = {name: _Engine() for name in ENGINES}

    def host_call(self) -> None:
        self.now += self.costs.call_ms

    def host_work(self, ms: float, name: str) -> None:
        """The host is busy for `ms`."""
        self.spans.append(Span(name, "host", self.now, self.now + ms))
        self.now += ms

    def host_waits(self, until: float, site: Site) -> float:
        """The host waits until `until`, in this line; returns for how long that was."""
        waited = max(0.0, until - self.now)
        if waited:
            self.spans.append(Span("wait", "host", self.now, until, site=site))
        self.now += waited
        return waited

    def host_launch(self) -> None:
        self.now += self.costs.launch_ms

    def device_work(
        self, name: str, lane: str, engine: str, ready: float, duration: float, touched: Touched, site: Site
    ) -> Span:
        """Queue an operation whose stream is ready at `ready`; returns its bar."""
        start = max(ready, self.now)
        if engine != "none":
            start = self._engines[engine].book(start, duration, self.now)
        span = Span(name, lane, start, start + duration, touched, site)
        self.spans.append(span)
        return span
