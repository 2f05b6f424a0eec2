"""Exercise 9.8: where the host's line crosses the forward's, and what a step takes on either side of it."""

from numbers import Integral
from typing import Any

import pytest

from ch09_persistent_batch.forecast import Lines, asynchronous_ms, rows_to_cross, synchronous_ms
from tests.causes import has_result, likely
from tests.simulated import needs_simulator
from tests.words import counted
from toolkit.in_flight import keep_in_flight, settled, step_ms
from toolkit.machine import Machine

# Chapter 8's prices on the virtual clock; chapter 9's; a small model and a slow host; lines that cross at 64 exactly.
CROSSING = Lines(1.3, 0.08, 8.0, 0.02)
FLAT = Lines(1.3, 0.002, 8.0, 0.02)
SLOW = Lines(2.0, 0.03, 1.0, 0.01)
EXACT = Lines(2.0, 0.125, 10.0, 0.0)
# Slower with few rows only: from 12 rows on the forward takes longer.
FALLING = Lines(4.0, 0.25, 1.0, 0.5)
# Nearly as steep: they cross behind 4,608 rows (the numbers are powers of two, so nothing is rounded).
FAR = Lines(1.5, 2**-9, 6.0, 2**-10)
LINES = [CROSSING, FLAT, SLOW, EXACT, FALLING, FAR]
ROWS = [1, 8, 100, 128, 512]


def is_about(seen: float, value: float) -> bool:
    return seen == pytest.approx(value, abs=1e-6)


def number_of(function: Any, lines: Lines, rows: int) -> float:
    call = f"{function.__name__}({lines}, {rows})"
    seen: float = function(lines, rows)
    has_result(seen, call)
    assert isinstance(seen, (int, float)), f"{call} should be a number of milliseconds, got {seen!r}"
    return seen


@pytest.mark.exercise("9.8")
@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize("rows", ROWS)
def test_a_synchronous_step(lines: Lines, rows: int):
    """The host's work, then the forward."""
    seen, host, forward = number_of(synchronous_ms, lines, rows), lines.host(rows), lines.forward(rows)
    assert is_about(seen, host + forward), (
        f"{lines} with {rows} rows: the host takes {host:g} ms, the forward {forward:g}, and one waits for the other: "
        f"{host + forward:g} ms a step; synchronous_ms says {seen:g}"
    ) + likely(
        (is_about(seen, max(host, forward)), ". That is the asynchronous order"),
        (is_about(seen, lines.host(1) + lines.forward(1)), ". That is a step with one row"),
        (is_about(seen, (lines.host(1) + lines.forward(1)) * rows), ". Only a part of either grows with the rows"),
    )


@pytest.mark.exercise("9.8")
@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize("rows", ROWS)
def test_an_asynchronous_step(lines: Lines, rows: int):
    """Both go on at the same time, so the longer one is the step."""
    seen, host, forward = number_of(asynchronous_ms, lines, rows), lines.host(rows), lines.forward(rows)
    assert is_about(seen, max(host, forward)), (
        f"{lines} with {rows} rows: the host takes {host:g} ms, the forward {forward:g}, and both go on at the same "
        f"time: {max(host, forward):g} ms a step; asynchronous_ms says {seen:g}"
    ) + likely(
        (is_about(seen, host + forward), ". That is the synchronous order"),
        (is_about(seen, forward), ". Here the host is slower, and the device waits for it"),
        (is_about(seen, host), ". Here the forward is slower, and the host waits for it"),
    )


@pytest.mark.exercise("9.8")
@pytest.mark.parametrize("lines", LINES)
def test_the_rows_at_which_they_cross(lines: Lines):
    """With so many rows the host is slower, with one fewer it is not; if it never is, there is no such number."""
    seen = rows_to_cross(lines)
    expected = next((rows for rows in range(1, 10_000) if lines.host(rows) > lines.forward(rows)), None)
    assert seen is None or isinstance(seen, Integral), f"rows_to_cross({lines}) is a whole number or None, got {seen!r}"
    wanted = "with no number of rows (None)" if expected is None else f"from {counted(expected, 'row')} on"
    if lines is FALLING:
        wanted = "with 1 row already (and not with many, which is not what is asked)"
    assert seen == expected, (
        f"on {lines} the host takes longer than the forward {wanted}; rows_to_cross says {seen}. "
    ) + likely(
        (expected is None, "Its line starts below the forward's and is no steeper."),
        (
            seen is None,
            f"With {counted(expected or 1, 'row')} it takes {lines.host(expected or 1):g} ms, the forward less.",
        ),
        (
            expected is not None and seen == expected - 1,
            f"With {counted(seen, 'row')} the host takes {lines.host(expected - 1 if expected else 1):g} ms and the "
            f"forward {lines.forward(expected - 1 if expected else 1):g}: not longer yet.",
        ),
        (seen is not None and seen < 1, "A step has at least one row."),
        (seen is not None and expected is not None and seen > expected, "Fewer rows are enough."),
    )


@needs_simulator
@pytest.mark.exercise("9.8")
@pytest.mark.parametrize("lines", LINES)
@pytest.mark.parametrize("rows", [8, 128])
def test_the_virtual_clock_agrees(lines: Lines, rows: int):
    """The simulated GPU, given the same lines, takes as long for a step in both orders."""
    machine = Machine(lines.host(rows), 0.0, lines.forward(rows))
    for function, in_flight in ((synchronous_ms, 1), (asynchronous_ms, 2)):
        seen = number_of(function, lines, rows)
        ran = step_ms(settled(keep_in_flight(machine, 24, in_flight), in_flight))
        assert is_about(seen, ran), (
            f"{lines} with {rows} rows took {ran:.3f} ms a step on the virtual clock with {in_flight} in flight; "
            f"{function.__name__} says {seen:.3f}"
        )
