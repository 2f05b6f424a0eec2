"""Timing work that a device does on its own time.

A launch puts work into the device's queue and returns at once, so a host clock around it measures the launch. The
device's own clock is read by *timing events*: markers in the queue that note the time at which the device gets to them.

`accelerator` is whatever runs the work: `torch.cuda`, the course's simulated GPU, a thread that plays the device
(toolkit.worker_queue), a virtual clock in the tests. They share the two names that are needed here, `Event` and
`synchronize` (toolkit/timed_device.py).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from toolkit.timed_device import Accelerator, TimingEvent

from .intervals import Interval


@dataclass(frozen=True)
class Timing:
    """How long one call took, seen from both sides; milliseconds."""

    host_ms: float  # how long the call alone kept the host: the launch, where the work is asynchronous
    device_ms: float  # how long the device needed


def measure(
    work: Callable[[], object],
    accelerator: Accelerator,
    *,
    warmup: int = 3,
    repeats: int = 5,
    now: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time a call that launches device work, on the host's clock and on the device's.

    Args:
        work: launches the work; called warmup + repeats times.
        accelerator: the device that `work` launches on.
        warmup: calls that are not measured: the first ones load code, pick algorithms and grow memory pools.
        repeats: calls that are measured, each from an idle device, so that nothing launched earlier is in the way.
        now: the host's clock, seconds; read right before and right after the call, the events are recorded outside.

    Returns:
        The medians over the measured calls: one interruption by the operating system must not move them.

    On an idle device the start marker is reached at once, before the work arrives. So `device_ms` includes the launch
    of the first kernel, and work shorter than its own launch has to be timed many launches at a time.
    """
    # BEGIN SOLUTION 0.2
    for _ in range(warmup):
        work()
    host_ms: list[float] = []
    device_ms: list[float] = []
    for _ in range(repeats):
        start = accelerator.Event(enable_timing=True)
        end = accelerator.Event(enable_timing=True)
        accelerator.synchronize()
        start.record()
        called = now()
        work()
        host_ms.append((now() - called) * 1e3)
        end.record()
        end.synchronize()
        device_ms.append(start.elapsed_time(end))
    return Timing(median(host_ms), median(device_ms))
    # END SOLUTION


class DeviceClock:
    """Places device events on the host's clock, so that both sides share one time axis.

    Events know only differences. One event, the *anchor*, is therefore tied to a reading of the host's clock; every
    other event lies so many milliseconds behind the anchor.

    Both clocks cannot be read at once. But the device reaches the anchor after the host has read its clock, recorded
    the anchor, and before the host, having waited for it, reads its clock again. The middle of the two readings is
    wrong by half their distance at most. That is some microseconds, unless the host is interrupted just then; so
    several anchors are tried, and the one with the closest readings is kept.
    """

    TRIES = 5

    def __init__(self, accelerator: Accelerator, now: Callable[[], float] = time.perf_counter) -> None:
        """Tie the two clocks together. Blocks until the device has reached the anchor.

        Args:
            accelerator: the device whose events will be placed.
            now: the host's clock, seconds.

        Tries `TRIES` anchors. Sets `self.anchor` (an event that the device has reached) and `self.anchor_s` (the host's
        clock at that moment).
        """
        # BEGIN SOLUTION 0.3
        closest = float("inf")
        for _ in range(self.TRIES):
            anchor = accelerator.Event(enable_timing=True)
            before = now()
            anchor.record()
            anchor.synchronize()
            after = now()
            if after - before < closest:
                closest = after - before
                self.anchor = anchor
                self.anchor_s = (before + after) / 2
        # END SOLUTION

    def interval(self, start: TimingEvent, end: TimingEvent) -> Interval:
        """When the device passed two events, in seconds of the host's clock.

        Args:
            start, end: timing events of the same device, in this order, which the device has reached already.

        The length is taken from the pair itself: `elapsed_time` is a 32-bit float, and the difference of two long
        distances from the anchor would be wrong by up to 8 microseconds after two minutes and by half a millisecond
        after an hour and a half.
        """
        # BEGIN SOLUTION 0.3
        start_s = self.anchor_s + self.anchor.elapsed_time(start) / 1e3
        return start_s, start_s + start.elapsed_time(end) / 1e3
        # END SOLUTION
