"""Chapter 0, measuring: how long a device works, how long it idles, and which clock to believe.

`intervals` turns a list of (start, end) pairs into an idle share, `timing` measures work that a device does on its own
time, and `forecast` says beforehand how long a loop will take. The course's timelines (toolkit.timeline) do what the
first two do with functions of their own, so that they are right whatever is written here; a test compares them.
"""

from .forecast import Forecast, overlapping, taking_turns
from .intervals import Interval, clip, idle_share, merge
from .timing import DeviceClock, Timing, measure

__all__ = [
    "DeviceClock",
    "Forecast",
    "Interval",
    "Timing",
    "clip",
    "idle_share",
    "measure",
    "merge",
    "overlapping",
    "taking_turns",
]
