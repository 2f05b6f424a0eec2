"""Exercise 0.1: intervals, and the idle share of an explicit window."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch00_measuring.intervals import clip, idle_share, merge

pytestmark = pytest.mark.exercise("0.1")

# Two streams of one device. By hand: busy in [0, 15] and [20, 31], 26 of 31 ms; but the durations add up to 31 ms.
TWO_STREAMS = [(20.0, 30.0), (0.0, 10.0), (30.0, 31.0), (5.0, 15.0)]


def test_merge_unites_what_overlaps():
    """Overlapping intervals become one, whatever the order they come in."""
    got = merge([(20, 30), (5, 15), (0, 10)])
    assert got == [(0, 15), (20, 30)], (
        f"merge([(20, 30), (5, 15), (0, 10)]) should be [(0, 15), (20, 30)], got {got}. "
        "Likely cause: the intervals are taken in the order given; sort them by start first."
    )


def test_merge_keeps_the_later_end():
    """A short interval inside a long one does not cut the long one off."""
    got = merge([(0, 100), (10, 20), (90, 95)])
    assert got == [(0, 100)], (
        f"merge([(0, 100), (10, 20), (90, 95)]) should be [(0, 100)], got {got}. "
        "Likely cause: the end of the interval just read replaces the end reached so far; keep the later of the two."
    )


def test_merge_joins_touching_intervals():
    """Where one interval ends exactly where the next one starts, there is no gap between them."""
    got = merge([(0, 5), (5, 8), (9, 10), (9, 10)])
    assert got == [(0, 8), (9, 10)], (
        f"merge([(0, 5), (5, 8), (9, 10), (9, 10)]) should be [(0, 8), (9, 10)], got {got}. "
        "Likely cause: the comparison leaves out equality (touching), or equal intervals are kept twice."
    )


def test_merge_of_nothing_is_nothing():
    """No intervals: the result is an empty list, not an error."""
    got = merge([])
    assert got == [], f"merge([]) should be [], got {got!r}"


def test_merge_leaves_the_input_alone():
    """The caller's list is as it was, in order and content."""
    given_list = [(20, 30), (5, 15), (0, 10)]
    merge(given_list)
    assert given_list == [(20, 30), (5, 15), (0, 10)], (
        f"merge changed the caller's list to {given_list}. Likely cause: list.sort() works in place; sorted() makes a "
        "new list."
    )


def test_clip_cuts_at_both_edges():
    """An interval that sticks out of the window is cut, one outside is dropped, one inside stays."""
    got = clip([(0, 4), (3, 6), (6, 8), (9, 20), (11, 12), (2, 30)], (4, 10))
    assert got == [(4, 6), (6, 8), (9, 10), (4, 10)], (
        "clip([(0, 4), (3, 6), (6, 8), (9, 20), (11, 12), (2, 30)], window=(4, 10)) should be "
        f"[(4, 6), (6, 8), (9, 10), (4, 10)], got {got}. Likely cause: intervals that cross an edge are kept whole or "
        "dropped whole; or (0, 4), which only touches the window, is kept with length 0."
    )


def test_two_streams():
    """Two streams that overlap by 5 ms: the device is busy for 26 of 31 ms (83.9 %), not for 31."""
    busy = 1 - idle_share(TWO_STREAMS, (0.0, 31.0))
    assert busy == pytest.approx(26 / 31), (
        f"busy share of {TWO_STREAMS} over (0, 31): expected 26/31 = 83.9 %, got {busy:.1%}. "
        "Likely cause: 100 % means that durations were added up, so that 5 ms in which both streams ran count twice: "
        "merge first; 16.1 % means that the busy share was returned instead of the idle share."
    )


def test_waiting_at_the_edges_counts():
    """The device waits at the start and at the end of the window: that is idle time too."""
    got = idle_share([(40.0, 60.0)], (0.0, 100.0))
    assert got == pytest.approx(0.8), (
        f"work from 40 to 60 in the window (0, 100) leaves 80 % idle, got {got:.1%}. Likely cause: the share was taken "
        "of the stretch from the first start to the last end of the work, which hides the waiting before and after; "
        "use the window."
    )


def test_work_outside_the_window_does_not_count():
    """Warm-up before the window and clean-up behind it are not the window's work."""
    got = idle_share([(-500.0, 10.0), (90.0, 900.0), (40.0, 50.0)], (0.0, 100.0))
    assert got == pytest.approx(0.7), (
        f"inside the window (0, 100) work ran in 0-10, 40-50 and 90-100, so 70 % is idle, got {got:.1%}. "
        "Likely cause: the intervals were not clipped to the window; a negative share is a sure sign."
    )


def test_empty_means_idle():
    """No work at all is 100 % idle; work that fills the window is 0 %."""
    got = idle_share([], (2.0, 3.0)), idle_share([(0.0, 9.0)], (2.0, 3.0))
    assert got == (1.0, 0.0), (
        f"no work and full work in the window (2, 3) should give shares (1.0, 0.0), got {got}. "
        "Likely cause: no work is treated as a special case, or the work that reaches over both edges was not cut to "
        "the window."
    )


GRID = st.integers(0, 40)
INTERVALS = st.lists(st.tuples(GRID, GRID).map(lambda pair: (min(pair), max(pair))), max_size=12)


@given(INTERVALS, GRID, st.integers(1, 40), st.randoms(use_true_random=False))
def test_equals_counting_cells(intervals: list[tuple[int, int]], first: int, length: int, rng: random.Random):
    """On a grid of whole numbers the idle share equals counting the cells that no interval covers."""
    window = (first, first + length)
    free = sum(not any(start <= cell < end for start, end in intervals) for cell in range(*window))
    got = idle_share(rng.sample(intervals, len(intervals)), window)
    assert got == pytest.approx(free / length), (
        f"intervals {intervals}, window {window}: {free} of {length} unit cells are free, so the idle share is "
        f"{free / length:.4f}, got {got:.4f}. Likely cause: overlapping, nested, or partly outside intervals; draw "
        "them on paper."
    )
