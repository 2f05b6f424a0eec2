"""Exercise 0.1: intervals, and the idle share of an explicit window."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch00_measuring import intervals as exercise
from ch00_measuring.intervals import Interval
from tests.causes import has_result, likely
from tests.ch00_measuring.counted import Counted

pytestmark = pytest.mark.exercise("0.1")

# Two streams of one device. By hand: busy in [0, 15] and [20, 31], 26 of 31 ms; but the durations add up to 31 ms.
TWO_STREAMS = [(20.0, 30.0), (0.0, 10.0), (30.0, 31.0), (5.0, 15.0)]


def pairs(seen: object, call: str) -> list[tuple[float, ...]]:
    """The result of `clip` or `merge` for comparing; a pair may be a list as well as a tuple."""
    has_result(seen, call)
    assert isinstance(seen, list), f"{call} should return a list of (start, end) pairs, not a {type(seen).__name__}"
    return [tuple(pair) for pair in seen]


def merge(given: list[Interval]) -> list[tuple[float, ...]]:
    return pairs(exercise.merge(list(given)), "merge")


def clip(given: list[Interval], window: Interval) -> list[tuple[float, ...]]:
    return pairs(exercise.clip(list(given), window), "clip")


def idle_share(given: list[Interval], window: Interval) -> float:
    share = exercise.idle_share(list(given), window)
    has_result(share, "idle_share")
    return share


def is_about(seen: float, value: float) -> bool:
    return math.isclose(seen, value, abs_tol=1e-9)


def test_merge_unites_what_overlaps():
    """Overlapping intervals become one, whatever the order they come in."""
    seen = merge([(20, 30), (5, 15), (0, 10)])
    assert seen == [(0, 15), (20, 30)], (
        f"merge([(20, 30), (5, 15), (0, 10)]) should be [(0, 15), (20, 30)], got {seen}. "
    ) + likely(
        (not seen or seen == [(0, 15)], "The last stretch is missing (or all are): append it too."),
        (
            merge([(0, 10), (5, 15), (20, 30)]) == [(0, 15), (20, 30)],
            "It is right once the intervals come in order: sort them by start first.",
        ),
    )


def test_merge_keeps_the_later_end():
    """A short interval inside a long one does not cut the long one off."""
    seen = merge([(0, 100), (10, 20), (90, 95)])
    assert seen == [(0, 100)], f"merge([(0, 100), (10, 20), (90, 95)]) should be [(0, 100)], got {seen}. " + likely(
        (
            seen[:1] == [(0, 20)],
            "The end of the interval just read replaces the end reached so far; keep the later of the two.",
        ),
        (seen[:1] == [(10, 20)], "They are not taken in the order of their starts: are they sorted by their ends?"),
    )


def test_merge_joins_touching_intervals():
    """Where one interval ends exactly where the next one starts, there is no gap between them."""
    seen = merge([(0, 5), (5, 8), (9, 10), (9, 10)])
    assert seen == [(0, 8), (9, 10)], (
        f"merge([(0, 5), (5, 8), (9, 10), (9, 10)]) should be [(0, 8), (9, 10)], got {seen}. "
    ) + likely(
        ((5, 8) in seen, "(0, 5) and (5, 8) touch, and stayed apart: the comparison leaves out equality."),
        (seen.count((9, 10)) > 1, "Equal intervals are kept twice."),
    )


def test_merge_of_nothing_is_nothing():
    """No intervals: the result is an empty list, not an error."""
    seen = merge([])
    assert seen == [], f"merge([]) should be [], got {seen}"


def test_the_smallest_gap_is_a_gap():
    """No tolerance, no rounding: the unit is the caller's, and in seconds a kernel is short."""
    after = math.nextafter(1.0, 2.0)
    seen = merge([(0.0, 1.0), (after, 2.0)])
    assert seen == [(0.0, 1.0), (after, 2.0)], (
        f"(0.0, 1.0) and ({after}, 2.0) have a gap between each other, if a small one; merge gave {seen}. Is there a "
        "tolerance, or a round()? Compare the numbers as they are"
    )
    seen = clip([(1.0, after)], (0.0, 3.0))
    assert seen == [(1.0, after)], (
        f"(1.0, {after}) has a positive length, if a small one, and lies in the window; clip gave {seen}. Is there a "
        "tolerance, or a round()? Compare the numbers as they are"
    )


@pytest.mark.parametrize("name", ["merge", "clip", "idle_share"])
def test_the_input_is_left_alone(name: str):
    """The caller's list is as it was, in order and content."""
    given_list = [(20, 30), (40, 50), (5, 15), (0, 10)]
    getattr(exercise, name)(given_list, *[(4, 25)] * (name != "merge"))
    assert given_list == [(20, 30), (40, 50), (5, 15), (0, 10)], (
        f"{name} changed the caller's list to {given_list}. list.sort() and the like work in place; sorted() makes a "
        "new list."
    )


@pytest.mark.parametrize("name", ["merge", "clip", "idle_share"])
def test_a_generator_will_do(name: str):
    """Intervals may come from anything that can be gone through once, such as a generator."""
    given_list = [(20, 30), (5, 15), (0, 10)]
    function: Callable[..., object] = getattr(exercise, name)
    window = [(4, 25)] * (name != "merge")
    try:
        seen = function((pair for pair in given_list), *window)
    except (TypeError, AttributeError) as error:
        pytest.fail(
            f"{name} was given a generator, and: {error}. `intervals` is an Iterable: len(), an index and list methods "
            "are not there; go through it once, or make a list of it first"
        )
    expected = function(given_list, *window)
    assert seen == expected, (
        f"{name} gives {expected} for a list and {seen} for a generator with the same intervals: it can be gone "
        "through only once; make a list of it first if you need it twice"
    )


def test_clip_cuts_at_both_edges():
    """An interval that sticks out of the window is cut, one outside is dropped, one inside stays."""
    given_list = [(0, 4), (3, 6), (6, 8), (9, 20), (11, 12), (2, 30), (5, 5)]
    expected = [(4, 6), (6, 8), (9, 10), (4, 10)]
    seen = clip(given_list, (4, 10))
    assert seen == expected, f"clip({given_list}, window=(4, 10)) should be {expected}, got {seen}. " + likely(
        (sorted(seen) == sorted(expected), "The parts are right, but not in the order given."),
        (any(start > end for start, end in seen), "What lies outside became parts that end before they start."),
        (any(start < 4 or end > 10 for start, end in seen), "An interval that crosses an edge is kept whole."),
        (not {(4, 6), (9, 10), (4, 10)} & set(seen), "Intervals that cross an edge are dropped whole."),
        (
            any(start == end for start, end in seen),
            "A part without length is kept; (5, 5) and (0, 4) have none inside.",
        ),
    )


def test_two_streams():
    """Two streams that overlap by 5 ms: the device is busy for 26 of 31 ms (83.9 %), not for 31."""
    share = idle_share(TWO_STREAMS, (0.0, 31.0))
    assert is_about(share, 5 / 31), (
        f"{TWO_STREAMS} cover 26 of the 31 ms from 0 to 31: the idle share is 5/31 = 0.161, got {share:.3f}. "
    ) + likely(
        (
            is_about(share, 0),
            "All durations were added up, so that 5 ms in which both streams ran count twice: merge first.",
        ),
        (
            is_about(share, 26 / 31),
            "That is the busy share, 26/31; the busy share was returned instead of the idle share.",
        ),
        (is_about(share, 5), "That is the idle time, not its share of the window."),
        (is_about(share, 500 / 31), "That is a percentage; the share is a number from 0 to 1."),
    )


def test_waiting_at_the_edges_counts():
    """The device waits at the start and at the end of the window: that is idle time too."""
    share = idle_share([(40.0, 60.0)], (0.0, 100.0))
    assert is_about(share, 0.8), (
        f"work from 40 to 60 in the window (0, 100) leaves the share 0.8 idle, got {share:.3f}. "
    ) + likely(
        (
            is_about(share, 0),
            "Only the stretch from the first start to the last end of the work was looked at; use the window.",
        ),
    )


def test_a_window_may_start_anywhere():
    """The share is of the window's length, last - first."""
    share = idle_share([(10.0, 12.0)], (8.0, 16.0))
    assert is_about(share, 0.75), (
        f"work from 10 to 12 in the window (8, 16) leaves 6 of 8 idle, the share 0.75, got {share:.3f}. "
    ) + likely((is_about(share, 1 - 2 / 16), "The busy time was divided by the window's end, not by its length."))


def test_work_outside_the_window_does_not_count():
    """Warm-up before the window and clean-up behind it are not the window's work."""
    share = idle_share([(-500.0, 10.0), (90.0, 900.0), (40.0, 50.0)], (0.0, 100.0))
    assert is_about(share, 0.7), (
        f"inside the window (0, 100) work ran in 0-10, 40-50 and 90-100, so the share 0.7 is idle, got {share:.3f}. "
    ) + likely(
        (share < 0, "Less than nothing: the intervals were not clipped to the window."),
        (is_about(share, 0.9), "Intervals that cross an edge of the window were left out whole."),
    )


def test_empty_means_idle():
    """No work at all is 100 % idle; work that fills the window is 0 %."""
    seen = idle_share([], (2.0, 3.0)), idle_share([(0.0, 9.0)], (2.0, 3.0))
    assert is_about(seen[0], 1) and is_about(seen[1], 0), (
        f"no work in the window (2, 3) is the share 1.0, full work 0.0; got {seen}"
    )


GRID = st.integers(0, 40)
INTERVALS = st.lists(st.tuples(GRID, GRID).map(lambda pair: (min(pair), max(pair))), max_size=12)


@given(INTERVALS, GRID, st.integers(1, 40), st.randoms(use_true_random=False))
def test_equals_counting_cells(intervals: list[tuple[int, int]], first: int, length: int, rng: random.Random):
    """On a grid of whole numbers the idle share equals counting the cells that no interval covers."""
    window = (first, first + length)
    free = sum(not any(start <= cell < end for start, end in intervals) for cell in range(*window))
    share = idle_share(rng.sample(intervals, len(intervals)), window)
    assert is_about(share, free / length), (
        f"intervals {intervals}, window {window}: {free} of {length} unit cells are free, so the idle share is "
        f"{free / length:.4f}, got {share:.4f}. Draw them on paper"
    )


@pytest.mark.parametrize("name", ["merge", "idle_share"])
def test_intervals_are_not_all_compared_with_each_other(name: str):
    """The work grows with the number of intervals (and that of sorting them), not with its square."""
    starts = random.Random(1).sample(range(1000), 1000)
    many = [(Counted(10 * start), Counted(10 * start + 4)) for start in starts]
    Counted.allow(150_000)
    if name == "merge":
        assert len(merge(many)) == 1000, "1,000 intervals with gaps between each other are 1,000 stretches"
    else:
        share = float(idle_share(many, (Counted(0), Counted(10_000))))
        assert is_about(share, 0.6), f"4 of every 10 units are covered, so 60 % is idle, got {share:.1%}"
