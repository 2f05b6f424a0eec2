"""Places a device's events on the host's clock. Chapter 0 explains and builds it; a test compares the two."""

import time
from collections.abc import Callable

from toolkit.timed_device import Accelerator, TimingEvent
from toolkit.timeline.intervals import Interval

TRIES = 5


class DeviceClock:
    """One event, the anchor, is tied to a reading of the host's clock; all others lie so far behind the anchor.

    The device reaches the anchor between two readings of the host's clock; of `TRIES` anchors, the one with the closest
    readings is kept, at their middle.

    Args:
        accelerator: the device whose events will be placed. Made, the clock has waited for it.
        now: the host's clock, seconds.
    """

    def __init__(self, accelerator: Accelerator, now: Callable[[], float] = time.perf_counter) -> None:
        closest = float("inf")
        for _ in range(TRIES):
            anchor = accelerator.Event(enable_timing=True)
            before = now()
            anchor.record()
            anchor.synchronize()
            after = now()
            if after - before < closest:
                closest = after - before
                self._anchor, self._anchor_s = anchor, (before + after) / 2

    def interval(self, start: TimingEvent, end: TimingEvent) -> Interval:
        """When the device passed two events, which it has reached, in seconds of the host's clock.

        The length comes from the pair itself: `elapsed_time` is a 32-bit float, too coarse for the difference of two
        long distances.
        """
        start_s = self._anchor_s + self._anchor.elapsed_time(start) / 1e3
        return start_s, start_s + start.elapsed_time(end) / 1e3
