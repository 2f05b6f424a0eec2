"""A device and a host that live in virtual time: what a measurement of them says is exact, on any machine.

It behaves as CUDA does where measuring is concerned: a launch returns after 0.04 ms, the queue has a finite depth and
a launch into a full queue blocks, `elapsed_time` is a 32-bit float and refuses events that were not reached or carry
no time.
"""

import struct

LAUNCH_MS = 0.04
RECORD_MS = 0.001


class VirtualDevice:
    """Stands in for torch.cuda: `Event`, `synchronize`, plus `launch` and the host's clock `now`."""

    def __init__(
        self, started_s: float = 1000.0, depth: int = 1024, wake_ms: tuple[float, ...] = (), reach_ms: float = 0.0
    ) -> None:
        """
        Args:
            wake_ms: how late the host wakes from its first, second, ... wait for an event; 0 after these.
            reach_ms: how long a marker takes from the host to an idle device.
        """
        self.host_ms = started_s * 1e3  # an odd origin, as a real clock has: nobody may rely on zero
        self.depth = depth
        self.wake_ms, self.reach_ms = list(wake_ms), reach_ms
        self._ends: list[float] = []  # when each launched operation ends, in launch order

    def now(self) -> float:
        """The host's clock, seconds."""
        return self.host_ms / 1e3

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
        """The host waits for everything launched."""
        self.host_ms = max(self.host_ms, self.free_at())

    def Event(self, *, enable_timing: bool = False) -> "VirtualEvent":  # noqa: N802
        """As torch.cuda.Event: without enable_timing it can be waited for but knows no time."""
        return VirtualEvent(self, enable_timing)


class VirtualEvent:
    """A marker in the queue of a VirtualDevice."""

    def __init__(self, device: VirtualDevice, enable_timing: bool) -> None:
        self.device, self.enable_timing = device, enable_timing
        self.reached_at: float | None = None

    def record(self) -> None:
        self.device.host_ms += RECORD_MS
        self.reached_at = max(self.device.host_ms + self.device.reach_ms, self.device.free_at())

    def synchronize(self) -> None:
        if self.reached_at is not None:
            late = self.device.wake_ms.pop(0) if self.device.wake_ms else 0.0
            self.device.host_ms = max(self.device.host_ms, self.reached_at) + late

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
