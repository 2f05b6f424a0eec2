"""How long a loop takes on a machine that does not exist yet, from four numbers and no measurement.

A forecast says what a change will bring before it is built, and where the measurement differs there is something to
find out. `toolkit.machine` runs the same machine on a virtual clock, to compare with.
"""

from dataclasses import dataclass

from toolkit.machine import Machine


@dataclass(frozen=True)
class Forecast:
    """What a loop of some steps will need.

    Attributes:
        total_ms: from the beginning of the first step's host work to the end of the last step's copy out.
        idle_share: the share of that time in which no forward runs, 0 to 1. Copies are no forward.
    """

    total_ms: float
    idle_share: float


def taking_turns(machine: Machine, num_steps: int) -> Forecast:
    """Forecast a synchronous loop.

    Every step does its host work, its copy in, its forward and its copy out one after the other, and the next step
    begins when all of that is done.

    Args:
        machine: what a step costs; `row_ms` is not of interest here.
        num_steps: at least 1.
    """
    # BEGIN SOLUTION 0.4
    total_ms = num_steps * (machine.host_ms + 2 * machine.copy_ms + machine.forward_ms)
    return Forecast(total_ms, 1 - num_steps * machine.forward_ms / total_ms)
    # END SOLUTION


def overlapping(machine: Machine, num_steps: int) -> Forecast:
    """Forecast a loop in which no step waits for the step before it.

    One step's parts still follow one another: host work, copy in, forward, copy out. But there are four workers: the
    host, one engine for copies in, one for forwards, one for copies out. Each takes up the next step's part as soon as
    it has finished this step's and the next step's part before it is done.

    Args:
        machine: what a step costs; `row_ms` is not of interest here.
        num_steps: at least 1.
    """
    # BEGIN SOLUTION 0.4
    one_step_ms = machine.host_ms + 2 * machine.copy_ms + machine.forward_ms
    slowest_ms = max(machine.host_ms, machine.copy_ms, machine.forward_ms)
    total_ms = one_step_ms + (num_steps - 1) * slowest_ms
    return Forecast(total_ms, 1 - num_steps * machine.forward_ms / total_ms)
    # END SOLUTION
