"""How fast a loop with several batches in flight runs on a given machine, worked out before it is built.

Chapter 5's two batches in flight are one case; how many of them pay depends on the machine. `toolkit.in_flight` runs
the same loop on a virtual clock, to compare with.
"""

from dataclasses import dataclass
from math import ceil

from toolkit.machine import Machine


@dataclass(frozen=True)
class Pace:
    """What a loop settles down to after its first steps.

    Attributes:
        step_ms: from the start of a forward to the start of the next one, on average.
        idle_share: the share of the time in which no forward runs, 0 to 1. Copies are no forward.
        token_ms: from one token of a request to its next one. The requests form as many groups as there are batches in
            flight, and the groups take turns, so a request is in every `in_flight`-th batch.
    """

    step_ms: float
    idle_share: float
    token_ms: float


def pace(machine: Machine, in_flight: int) -> Pace:
    """Work out the pace of a loop.

    A batch's parts follow one another: host work, copy in, forward, copy out. Host, copies in, forwards and copies out
    can go on at the same time, each for one batch after the other. When `in_flight` batches are launched, the host
    waits for the oldest one's copy out before it works on the next.

    Args:
        machine: what a batch costs, whatever number of rows it has; `row_ms` is not of interest here.
        in_flight: how many batches are in flight, at least 1, each in a set of IO buffers of its own.
    """
    raise NotImplementedError("ch05 exercise 4: Forecast the pace of a pipeline")


def fewest_in_flight(machine: Machine) -> int:
    """The smallest number of batches in flight with which a step is as short as it gets on this machine."""
    raise NotImplementedError("ch05 exercise 4: Forecast the pace of a pipeline")
