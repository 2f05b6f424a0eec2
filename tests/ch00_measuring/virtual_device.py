"""A device and a host that live in virtual time: what a measurement of them says is exact, on any machine.

It behaves as CUDA does where measuring is concerned: a launch returns after 0.04 ms, the queue has a finite depth and
a launch into a full queue blocks, `elapsed_time` is a 32-bit float and refuses events that were not reached or carry
no time.
"""

import struct

LAUNCH_MS = 0.04
RECORD_MS = 0.02


class VirtualDevice:
    """Stands in for torch.cuda: `Event`, `synchronize`, plus `launch` and the host's clock `now`."""

    def __init__(
        self,
        started_s: float = 1000.0,
        depth: int = 1024,
        wake_ms: tuple[float, ...] = (),
        stuck_ms: tuple[float, ...] = (),
        reach_ms: float = 0.0,
    ) -> None:
        """
        Args:
            wake_ms: how late the host wakes from the first wait after the first, second, ... marker; 0 after these.
            stuck_ms: how long the host is kept after it has sent the first, second, ... marker; 0 after these.
            reach_ms: how long a marker takes from the host to an idle device.
        """
        self.host_ms = started_s * 1e3  # an odd origin, as a real clock has: no code may rely on zero
        self.depth = depth
        self.wake_ms, self.stuck_ms, self.reach_ms = list(wake_ms), list(stuck_ms), reach_ms
        self.late_ms = 0.0  # what the next wait will be late
        self.readings = 0  # of the host's clock
        self._ends: list[float] = []  # when each launched operation ends and each marker is reached, in queue order

    def now(self) -> float:
        """The host's clock, seconds."""
        self.readings += 1
        return self.host_ms / 1e3

    def assert_read(self, what: str) -> None:
        """Fail if `what` has never read this device's host clock."""
        assert self.readings, (
            f"{what} has not called now() once, so it has read another clock. The host's clock is the argument `now`, "
            "here that of a virtual machine: call now() in place of time.perf_counter() or the like"
        )

    def host_work(self, ms: float) -> None:
        """The host is busy with something else."""
        self.host_ms += ms

    def launch(self, ms: float) -> None:
        """Queue work of `ms` milliseconds."""
        self.host_ms += LAUNCH_MS
        waiting = [end for end in self._ends if end > self.host_ms]
        if len(waiting) >= self.depth:
            self.host_ms = waiting[-self.depth]
        self._ends.append(max(self.host_ms, self.free_at()) + ms)

    def free_at(self) -> float:
        """When the device will have nothing left to do, in the host's milliseconds."""
        return self._ends[-1] if self._ends else self.host_ms

    def synchronize(self) -> None:
        """The host waits for everything launched and recorded."""
        self.wait_until(self.free_at())

    def wait_until(self, reached_ms: float) -> None:
        self.host_ms = max(self.host_ms, reached_ms) + self.late_ms
        self.late_ms = 0.0

    def record(self) -> float:
        """Queue a marker and return when the device gets to it."""
        self.host_ms += RECORD_MS
        self._ends.append(max(self.host_ms + self.reach_ms, self.free_at()))
        self.host_ms += self.stuck_ms.pop(0) if self.stuck_ms else 0.0
        self.late_ms = self.wake_ms.pop(0) if self.wake_ms else 0.0
        return self._ends[-1]

    def Event(self, *, enable_timing: bool = False) -> "VirtualEvent":  # noqa: N802
        """As torch.cuda.Event: without enable_timing it can be waited for but knows no time."""
        return VirtualEvent(self, enable_timing)


class VirtualEvent:
    """A marker in the queue of a VirtualDevice."""

    def __init__(self, device: VirtualDevice, enable_timing: bool) -> None:
        self.device, self.enable_timing = device, enable_timing
        self.reached_at: float | None = None

    def record(self) -> None:
        self.reached_at = self.device.record()

    def synchronize(self) -> None:
        if self.reached_at is not None:
            self.device.wait_until(self.reached_at)

    def elapsed_time(self, end: "VirtualEvent") -> float:
        for event in (self, end):
            if not event.enable_timing:
                raise RuntimeError("elapsed_time: the event carries no time; make it with Event(enable_timing=True)")
            if event.reached_at is None:
                raise RuntimeError("elapsed_time: the event was never recorded")
            if event.reached_at > self.device.host_ms:
                raise RuntimeError(
                    "elapsed_time: device not ready, the event has not been reached yet; synchronise before reading it"
                )
        return struct.unpack("f", struct.pack("f", end.reached_at - self.reached_at))[0]
