"""Intervals of work, pairs (start, end) with start <= end, and what they leave idle. Chapter 0 builds them.

The toolkit has its own, so that every timeline is right whatever is in my/; a test compares the two.
"""

from collections.abc import Iterable

Interval = tuple[float, float]


def clip(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """The parts of positive length that lie inside the window, in the order given."""
    first, last = window
    cut = [(max(start, first), min(end, last)) for start, end in intervals]
    return [(start, end) for start, end in cut if start < end]


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """The same stretches of time, sorted and with a gap between each other: what overlaps or touches is united."""
    merged: list[Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def idle_share(intervals: Iterable[Interval], window: Interval) -> float:
    """The share of the window that no interval covers, 0 to 1.

    Raises:
        ValueError: the window has no length.
    """
    first, last = window
    if not first < last:
        raise ValueError(f"the window must end after it starts, got ({first}, {last})")
    busy = sum(end - start for start, end in merge(clip(intervals, window)))
    return 1 - busy / (last - first)
