"""Exercise 0.4: forecasts, against sums done by hand and against the simulated GPU's virtual clock."""

from dataclasses import replace

import pytest

from ch00_measuring.forecast import Forecast, overlapping, taking_turns
from tests.causes import has_result, likely
from tests.simulated import needs_simulator
from tests.words import counted
from toolkit.machine import Machine, overlap, take_turns

pytestmark = pytest.mark.exercise("0.4")

# One in which the device is the slowest, one in which the host is, one in which a copy is.
MACHINES = [Machine(2.0, 0.5, 7.0), Machine(9.0, 2.0, 4.0), Machine(1.0, 6.0, 3.0, row_ms=0.25)]


def is_about(seen: float, value: float) -> bool:
    return seen == pytest.approx(value, abs=1e-6)


def forecast_of(function, machine: Machine, num_steps: int) -> Forecast:
    call = f"{function.__name__}({machine}, {num_steps})"
    seen = function(machine, num_steps)
    has_result(seen, call)
    assert isinstance(seen, Forecast), f"{call} should return a Forecast(total_ms, idle_share), got {seen!r}"
    return seen


def one_step(machine: Machine) -> float:
    return machine.host_ms + 2 * machine.copy_ms + machine.forward_ms


@pytest.mark.parametrize("machine", MACHINES)
def test_taking_turns(machine: Machine):
    """Steps one after the other: the time of one, as often as there are steps."""
    seen, expected = forecast_of(taking_turns, machine, 10), 10 * one_step(machine)
    assert is_about(seen.total_ms, expected), (
        f"ten steps one after the other on {machine} take {expected} ms, your forecast is {seen.total_ms}. "
    ) + likely(
        (is_about(seen.total_ms, expected - 10 * machine.copy_ms), "A step has two copies, one in and one out."),
        (is_about(seen.total_ms, expected - 20 * machine.copy_ms), "The copies are missing."),
        (is_about(seen.total_ms, expected / 10), "That is one step."),
        (
            machine.row_ms > 0 and is_about(seen.total_ms, expected + 10 * machine.row_ms),
            "row_ms is counted, which is not of interest here.",
        ),
        (is_about(seen.total_ms * 1e3, expected), "That is in seconds; a Forecast has milliseconds."),
    )
    check_idle_share("taking_turns", seen, machine, 10)


@pytest.mark.parametrize("machine", MACHINES)
def test_overlapping(machine: Machine):
    """After the first step, the slowest of the four workers sets the pace, whichever it is."""
    seen = forecast_of(overlapping, machine, 10)
    slowest = max(machine.host_ms, machine.copy_ms, machine.forward_ms)
    expected = one_step(machine) + 9 * slowest
    assert is_about(seen.total_ms, expected), (
        f"ten overlapping steps on {machine} take {expected} ms, your forecast is {seen.total_ms}. "
    ) + likely(
        (
            is_about(seen.total_ms, 10 * slowest),
            "The slowest worker alone: before its first part and behind its last one, the others have theirs to do.",
        ),
        (
            is_about(seen.total_ms, one_step(machine) + 10 * slowest),
            "One step too many: the first one's slowest part is in its own time already.",
        ),
        (
            is_about(seen.total_ms, one_step(machine) + 9 * machine.forward_ms),
            f"Here the forward is not the slowest part: each further step comes {slowest} ms after the one before.",
        ),
        (
            is_about(seen.total_ms, one_step(machine) + 9 * max(machine.host_ms, machine.forward_ms)),
            "Here a copy is the slowest part.",
        ),
        (
            is_about(
                seen.total_ms, one_step(machine) + 9 * max(machine.host_ms, 2 * machine.copy_ms, machine.forward_ms)
            ),
            "Copies in and copies out have an engine each: they go on at the same time.",
        ),
        (is_about(seen.total_ms, 10 * one_step(machine)), "That is the time in which all take turns."),
    )
    check_idle_share("overlapping", seen, machine, 10)


def check_idle_share(function: str, seen: Forecast, machine: Machine, num_steps: int) -> None:
    busy = num_steps * machine.forward_ms / seen.total_ms
    share = seen.idle_share
    assert is_about(share, 1 - busy), (
        f"{function}: forwards run for {num_steps} * {machine.forward_ms} of your {seen.total_ms} ms, so the idle "
        f"share is {1 - busy:.4f}; your forecast is {share}. "
    ) + likely(
        (is_about(share, busy), "That is the busy share."),
        (is_about(share, 100 * (1 - busy)), "That is a percentage; the share is a number from 0 to 1."),
        (
            is_about(share, 1 - num_steps * (machine.forward_ms + 2 * machine.copy_ms) / seen.total_ms),
            "The copies were counted as forwards: while one goes on, the compute units wait.",
        ),
        (
            is_about(share, 1 - machine.forward_ms / max(machine.host_ms, machine.copy_ms, machine.forward_ms)),
            "That is the share of a step in the middle; here it is that of all steps, from the first one's start.",
        ),
    )


@pytest.mark.parametrize("function", [taking_turns, overlapping])
def test_one_step_has_nothing_to_overlap_with(function):
    """A single step takes its own time, in either loop."""
    machine = MACHINES[0]
    seen = forecast_of(function, machine, 1)
    assert is_about(seen.total_ms, one_step(machine)), (
        f"{function.__name__}: one step on {machine} takes {one_step(machine)} ms, your forecast is {seen.total_ms}. "
        + likely(
            (
                is_about(seen.total_ms, function(machine, 10).total_ms),
                "It is the same for ten steps: num_steps is missing.",
            )
        )
    )


@needs_simulator
@pytest.mark.parametrize("num_steps", [1, 2, 25])
@pytest.mark.parametrize("machine", [*MACHINES, replace(MACHINES[0], copy_ms=0.0)])
def test_the_virtual_clock_agrees(machine: Machine, num_steps: int):
    """The simulated GPU, given the same four numbers, needs exactly as long and idles exactly as much."""
    for function, run in ((taking_turns, take_turns), (overlapping, overlap)):
        seen, recording = forecast_of(function, machine, num_steps), run(machine, num_steps)
        first, last = recording.window
        total_ms, idle_share = (last - first) * 1e3, recording.idle_share()
        assert is_about(seen.total_ms, total_ms) and is_about(seen.idle_share, idle_share), (
            f"{function.__name__}: {counted(num_steps, 'step')} of {machine} took {total_ms:.3f} ms on the virtual "
            f"clock, idle share {idle_share:.4f}; your forecast is {seen}"
        )
