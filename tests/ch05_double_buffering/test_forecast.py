"""Exercise 5.4: the pace of a pipeline, against sums done by hand and against the simulated GPU's virtual clock."""

from itertools import pairwise
from numbers import Integral

import pytest

from ch05_double_buffering.forecast import Pace, fewest_in_flight, pace
from tests.causes import has_result, likely
from tests.simulated import needs_simulator
from toolkit.in_flight import keep_in_flight, settled, step_ms
from toolkit.machine import Machine

# What limits the pace with two batches in flight: the forward, the host, a copy, and three times a batch's latency.
MACHINES = [
    Machine(2.0, 0.5, 7.0),
    Machine(9.0, 0.5, 6.0),
    Machine(1.0, 8.0, 0.5),
    Machine(3.0, 4.0, 6.0),
    Machine(5.0, 4.5, 5.0),
    Machine(4.0, 4.0, 4.0),
]
IN_FLIGHT = [1, 2, 3, 4]


def is_about(seen: float, value: float) -> bool:
    return seen == pytest.approx(value, abs=1e-6)


def latency_ms(machine: Machine) -> float:
    """From the beginning of a batch's host work to the end of its copy out."""
    return machine.host_ms + 2 * machine.copy_ms + machine.forward_ms


def slowest_ms(machine: Machine) -> float:
    return max(machine.host_ms, machine.copy_ms, machine.forward_ms)


def pace_of(machine: Machine, in_flight: int) -> Pace:
    call = f"pace({machine}, {in_flight})"
    seen = pace(machine, in_flight)
    has_result(seen, call)
    assert isinstance(seen, Pace), f"{call} should return a Pace(step_ms, idle_share, token_ms), got {seen!r}"
    return seen


@pytest.mark.exercise("5.4")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("in_flight", IN_FLIGHT)
def test_the_pace_of_a_step(machine: Machine, in_flight: int):
    """The slowest lane limits it, or the latency of a batch, which `in_flight` batches share."""
    seen = pace_of(machine, in_flight).step_ms
    slowest, latency = slowest_ms(machine), latency_ms(machine)
    expected = max(slowest, latency / in_flight)
    assert is_about(seen, expected), (
        f"on {machine} with {in_flight} in flight a step takes {expected:g} ms, your pace says {seen:g}. "
    ) + likely(
        (is_about(seen * 1e3, expected), "That is in seconds; a Pace has milliseconds."),
        (
            is_about(seen, slowest),
            f"That is the longest part alone. But a batch takes {latency:g} ms from host work to copy out, and in this "
            f"time no more than {in_flight} are begun.",
        ),
        (
            is_about(seen, latency / in_flight),
            f"No lane works for two batches at once, and one part takes {slowest:g} ms of every step.",
        ),
        (is_about(seen, latency), "That is one batch after the other, with nothing in flight meanwhile."),
        (
            is_about(seen, max(slowest, (latency - machine.copy_ms) / in_flight)),
            "A batch has two copies, one in and one out.",
        ),
        (
            is_about(seen, max(machine.host_ms, 2 * machine.copy_ms, machine.forward_ms, latency / in_flight)),
            "Copies in and copies out have an engine each: they go on at the same time.",
        ),
        (
            is_about(seen, max(machine.host_ms, machine.forward_ms, latency / in_flight)),
            "Here a copy is the longest part.",
        ),
        otherwise="Draw a few batches, as many of them in flight, in four lanes: which lane has no gap, or what does "
        "the host wait for?",
    )


@pytest.mark.exercise("5.4")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("in_flight", IN_FLIGHT)
def test_what_a_step_is_made_of(machine: Machine, in_flight: int):
    """Of each step a forward takes `forward_ms`, and a request has its turn in every `in_flight`-th step."""
    seen = pace_of(machine, in_flight)
    busy = machine.forward_ms / seen.step_ms
    assert is_about(seen.idle_share, 1 - busy), (
        f"a forward of {machine.forward_ms:g} ms in each step of {seen.step_ms:g} ms leaves the device idle for "
        f"{1 - busy:.4f} of the time; your pace says {seen.idle_share:.4f}. "
    ) + likely(
        (is_about(seen.idle_share, busy), "That is the busy share."),
        (is_about(seen.idle_share, 100 * (1 - busy)), "That is a percentage; the share is a number from 0 to 1."),
        (
            is_about(seen.idle_share, 1 - (machine.forward_ms + 2 * machine.copy_ms) / seen.step_ms),
            "The copies were counted as forwards.",
        ),
    )
    assert is_about(seen.token_ms, in_flight * seen.step_ms), (
        f"with {in_flight} in flight and steps of {seen.step_ms:g} ms a request's next token comes after "
        f"{in_flight * seen.step_ms:g} ms; your pace says {seen.token_ms:g}. "
    ) + likely(
        (is_about(seen.token_ms, seen.step_ms), "The other groups' batches come between a request's own."),
        (is_about(seen.token_ms, latency_ms(machine)), "A batch may also have to wait for its turn."),
    )


@pytest.mark.exercise("5.4")
@pytest.mark.parametrize("machine", MACHINES)
def test_the_fewest_in_flight(machine: Machine):
    """From this number on, the slowest lane has no gap, and more in flight change nothing."""
    seen = fewest_in_flight(machine)
    has_result(seen, f"fewest_in_flight({machine})")
    slowest, latency = slowest_ms(machine), latency_ms(machine)
    expected = next(number for number in range(1, 100) if latency / number <= slowest)
    assert isinstance(seen, Integral) and seen == expected, (
        f"on {machine} a step takes at least {slowest:g} ms, and a batch {latency:g} ms from host work to "
        f"copy out: {expected} in flight "
        f"are enough and {expected - 1} too few; fewest_in_flight says {seen!r}. "
    ) + likely(
        (not isinstance(seen, Integral), "It is a whole number."),
        (seen == expected - 1, f"With {expected - 1} in flight a step takes {latency / max(expected - 1, 1):g} ms."),
        (seen == expected + 1, f"With {expected} in flight, {latency / expected:g} ms are short enough already."),
        (seen == 2, "Two are enough on some machines only."),
    )


@needs_simulator
@pytest.mark.exercise("5.4")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("in_flight", IN_FLIGHT)
def test_the_virtual_clock_agrees(machine: Machine, in_flight: int):
    """The simulated GPU, given the same numbers, runs at this pace."""
    seen, ran = pace_of(machine, in_flight), settled(keep_in_flight(machine, 32, in_flight), in_flight)
    assert is_about(seen.step_ms, step_ms(ran)) and is_about(seen.idle_share, ran.idle_share()), (
        f"with {in_flight} in flight, {machine} took {step_ms(ran):.3f} ms a step on the virtual clock, idle share "
        f"{ran.idle_share():.4f}; your pace says {seen}"
    )


@needs_simulator
@pytest.mark.parametrize("in_flight", IN_FLIGHT)
def test_no_more_than_these_are_in_flight(in_flight: int):
    """On the virtual clock a batch's host work begins when the batch is through whose place it takes."""
    recording = keep_in_flight(MACHINES[3], 12, in_flight)
    begun = [span.start for span in recording.spans if span.name == "prepare"]
    through = [end for _, end in recording.intervals("d2h")]
    assert len(begun) == len(through) == 12
    assert all(start >= end - 1e-12 for start, end in zip(begun[in_flight:], through, strict=False))
    assert all(first < second for first, second in pairwise(begun))
