"""The timelines' own intervals and device clock say exactly what those of chapter 0 say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch00_measuring import intervals as chapter
from ch00_measuring.timing import DeviceClock as ChapterClock
from tests.ch00_measuring.virtual_device import VirtualDevice
from toolkit.timeline import intervals as ours
from toolkit.timeline.device_clock import DeviceClock

# Few distinct numbers, so that intervals touch, repeat, have no length, and end where the window does.
POINTS = st.integers(-8, 8).map(lambda number: number / 4) | st.floats(-2, 2)
INTERVALS = st.lists(st.tuples(POINTS, POINTS).map(lambda pair: tuple(sorted(pair))))
WINDOWS = st.tuples(POINTS, POINTS)


@given(INTERVALS, WINDOWS)
def test_intervals_are_those_of_chapter_0(intervals, window):
    """clip, merge and idle_share: the same result for the same random intervals, and the same error."""
    assert ours.merge(intervals) == chapter.merge(intervals)
    first, last = window
    if first < last:
        assert ours.clip(intervals, window) == chapter.clip(intervals, window)
        assert ours.idle_share(intervals, window) == chapter.idle_share(intervals, window)
    else:
        for idle_share in (ours.idle_share, chapter.idle_share):
            with pytest.raises(ValueError, match="must end after it starts"):
                idle_share(intervals, window)


@pytest.mark.parametrize("seed", range(20))
def test_the_device_clock_is_that_of_chapter_0(seed):
    """Random work on twins of a virtual device, whose host is interrupted at random, is placed at the same times."""
    ours, theirs = (placed(make_clock, random.Random(seed)) for make_clock in (DeviceClock, ChapterClock))
    assert ours == theirs


def placed(make_clock, rng):
    """Where a clock places 8 pieces of random work, as (start, end) in seconds."""
    late = [tuple(rng.choice((0, 0, 0.1, 3.0)) for _ in range(6)) for _ in range(2)]
    device = VirtualDevice(1000 + rng.random(), wake_ms=late[0], stuck_ms=late[1], reach_ms=rng.random() / 100)
    device.launch(rng.choice((0.0, 40.0)))
    clock = make_clock(device, device.now)
    intervals = []
    for _ in range(8):
        device.host_work(rng.random() * 10)
        start, end = (device.Event(enable_timing=True) for _ in range(2))
        start.record()
        device.launch(rng.random() * 5)
        end.record()
        device.synchronize()
        intervals.append(clock.interval(start, end))
    return intervals
