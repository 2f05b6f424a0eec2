"""From intervals of work to an idle share.

Everything this course claims ("the GPU waits for the CPU 24 % of the time") comes down to one number: in a stretch of
time, which part was covered by no work at all? Adding up the durations does not answer it. Two kernels that run at the
same time cover that time once, and work from before the stretch does not belong to it. So: clip, merge, then add.

An interval is a pair (start, end) with start <= end. The unit is the caller's; the course uses seconds.
"""

from collections.abc import Iterable

Interval = tuple[float, float]


def clip(intervals: Iterable[Interval], window: Interval) -> list[Interval]:
    """Keep what lies inside the window.

    Args:
        intervals: pairs (start, end), in any order; they may overlap. A list, a generator, anything to go through once.
        window: the stretch of time to look at, (first, last).

    Returns:
        The parts inside the window, in the order given. An interval that sticks out is cut at the edge; one that has no
        part of positive length inside is left out.
    """
    first, last = window
    raise NotImplementedError("ch00 exercise 1: The idle share of a window")


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """Unite intervals that overlap or touch.

    Args:
        intervals: pairs (start, end), in any order; they may overlap, touch, repeat, or lie inside one another. A
            recording has a hundred thousand: sort them, don't compare each with all others.

    Returns:
        The same stretches of time as pairs that are sorted and have a gap between each other, however small. `[]` for
        no intervals.
    """
    raise NotImplementedError("ch00 exercise 1: The idle share of a window")


def idle_share(intervals: Iterable[Interval], window: Interval) -> float:
    """The share of the window in which nothing ran: 0.0 always busy, 1.0 never.

    Args:
        intervals: when work ran, pairs (start, end), in any order, also outside the window; those of several streams
            of one device may be mixed. Left as they are.
        window: the stretch of time that is judged. It is explicit on purpose: the first start and the last end of the
            work would hide the time that a device waited before and after.

    Raises:
        ValueError: the window has no length.
    """
    first, last = window
    if not first < last:
        raise ValueError(f"the window must end after it starts, got ({first}, {last})")
    raise NotImplementedError("ch00 exercise 1: The idle share of a window")
