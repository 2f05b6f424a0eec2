"""Chapter 0, measuring: how long a device works, how long it idles, and which clock to believe.

`intervals` turns a list of (start, end) pairs into an idle share, `timing` measures work that a device does on its own
time. The course's timeline recorder (toolkit.timeline) is built on these functions.
"""

from .intervals import Interval, clip, idle_share, merge
from .timing import Accelerator, DeviceClock, Timing, TimingEvent, measure

__all__ = [
    "Accelerator",
    "DeviceClock",
    "Interval",
    "Timing",
    "TimingEvent",
    "clip",
    "idle_share",
    "measure",
    "merge",
]
