"""Exercise 2.7: forecasts of serving, against counting by hand and against the engine on the virtual clock."""

import random

import pytest

from ch02_continuous_batching.forecast import Forecast, count_steps, forecast
from ch02_continuous_batching.machine_engine import serve_on
from tests.causes import has_result, likely
from tests.simulated import needs_simulator
from toolkit.machine import Machine

pytestmark = pytest.mark.exercise("2.7")

MACHINE = Machine(host_ms=2.0, copy_ms=0.5, forward_ms=7.0, row_ms=0.25)


def steps_of(wanted: list[int], max_rows: int) -> int:
    seen = count_steps(list(wanted), max_rows)
    has_result(seen, f"count_steps({wanted}, {max_rows})")
    return seen


def static_steps(wanted: list[int], max_rows: int) -> int:
    return sum(max(wanted[first : first + max_rows]) for first in range(0, len(wanted), max_rows))


@pytest.mark.parametrize(
    ("wanted", "max_rows", "expected"),
    [
        ([2, 9, 3, 3, 8, 2], 3, 11),  # the six requests of the lesson's first section
        ([5, 5, 5, 5, 5, 5], 3, 10),
        ([4, 1, 1, 1, 1], 2, 4),
        ([7], 4, 7),
        ([3, 1, 2], 1, 6),
        ([1, 1, 1], 8, 1),
        ([1, 9, 8], 2, 9),
        ([], 3, 0),
    ],
)
def test_steps(wanted: list[int], max_rows: int, expected: int):
    """First come, first served: the next request takes the row that is free first."""
    seen = steps_of(wanted, max_rows)
    lower = max(-(-sum(wanted) // max_rows), max(wanted, default=0))
    assert seen == expected, (
        f"count_steps({wanted}, max_rows={max_rows}) should be {expected}, got {seen}. "
    ) + likely(
        (bool(wanted) and seen == static_steps(wanted, max_rows), "Those are the steps of static batches."),
        (seen == lower, "That is the least that any order could reach; here requests join in the order of arrival."),
        (
            seen == expected + 1,
            "One too many. A request has its first token in the step in which it joins, so one that joins at step s "
            "and wants n tokens leaves its row free for step s + n.",
        ),
        (seen == sum(wanted), "Those are the steps of one row; there are several."),
        (
            seen < expected,
            "So few take another order: here requests join in the order of arrival, not the longest first.",
        ),
        otherwise="Was a row left empty that was free? The next request takes the row that is free first.",
    )


def forecast_of(machine: Machine, wanted: list[int], max_rows: int) -> Forecast:
    seen = forecast(machine, list(wanted), max_rows)
    call = f"forecast({machine}, {wanted}, {max_rows})"
    has_result(seen, call)
    assert isinstance(seen, Forecast), f"{call} should return a Forecast, got {seen!r}"
    return seen


def test_time_and_idle_share():
    """What comes once a step counts once a step, what comes with each row counts with each row of each step."""
    wanted, max_rows = [2, 9, 3, 3, 8, 2], 3
    seen = forecast_of(MACHINE, wanted, max_rows)
    assert seen.num_steps == 11, f"the six requests take 11 steps on three rows, your forecast says {seen.num_steps}"
    total_ms = 11 * 10.0 + 27 * 0.25
    assert seen.total_ms == pytest.approx(total_ms), (
        f"11 steps of 2 + 0.5 + 7 + 0.5 ms, and 27 rows in all of 0.25 ms, are {total_ms} ms; your forecast is "
        f"{seen.total_ms}. "
    ) + likely(
        (seen.total_ms == pytest.approx(110.0), "row_ms is missing."),
        (
            seen.total_ms == pytest.approx(110.0 + 11 * 0.25),
            "row_ms was counted once a step; it comes for each row of each step.",
        ),
        (
            seen.total_ms == pytest.approx(110.0 + 11 * 3 * 0.25),
            "row_ms was counted as if all rows were always taken; at the end some are empty.",
        ),
        (seen.total_ms == pytest.approx(total_ms - 11 * 0.5), "A step has two copies, one in and one out."),
    )
    idle = 1 - 11 * 7.0 / total_ms
    assert seen.idle_share == pytest.approx(idle), (
        f"forwards run for 11 * 7 of {total_ms} ms, so the idle share is {idle:.4f}; your forecast is "
        f"{seen.idle_share}. "
    ) + likely(
        (seen.idle_share == pytest.approx(1 - idle), "That is the busy share."),
        (seen.idle_share == pytest.approx(100 * idle), "That is a percentage; the share is a number from 0 to 1."),
        (seen.idle_share == pytest.approx(1 - 7.0 / 10.0), "row_ms is missing in the time that it is a share of."),
    )


@needs_simulator
@pytest.mark.parametrize("seed", range(6))
def test_the_engine_on_the_virtual_clock_agrees(seed: int):
    """The chapter's scheduler, packer and book on a machine of given numbers need exactly what was forecast."""
    rng = random.Random(seed)
    wanted = [rng.randint(1, 12) for _ in range(rng.randint(1, 14))]
    max_rows = rng.randint(1, 5)
    machine = Machine(*(rng.choice([0.0, 0.5, 1.0, 3.0]) for _ in range(2)), 4.0, rng.choice([0.0, 0.1, 1.0]))
    seen, recording = forecast_of(machine, wanted, max_rows), serve_on(machine, wanted, max_rows)
    first, last = recording.window
    ran = Forecast(len(recording.intervals("compute")), (last - first) * 1e3, recording.idle_share())
    said = seen.num_steps, seen.total_ms, seen.idle_share
    assert said == pytest.approx((ran.num_steps, ran.total_ms, ran.idle_share), abs=1e-6), (
        f"{machine}, requests for {wanted} tokens, {max_rows} rows: the engine took {ran}, your forecast is {seen}"
    )
