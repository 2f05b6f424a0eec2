"""Chapter 0, measuring: how long a device works, how long it idles, and which clock to believe.

`intervals` turns a list of (start, end) pairs into an idle share, `timing` measures work that a device does on its own
time. The course's timelines (toolkit.timeline) do the same with functions of their own, so that they are right whatever
is written here; a test compares the two.
"""

from .intervals import Interval, clip, idle_share, merge
from .timing import DeviceClock, Timing, measure

__all__ = [
    "DeviceClock",
    "Interval",
    "Timing",
    "clip",
    "idle_share",
    "measure",
    "merge",
]
