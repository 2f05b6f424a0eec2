"""How long an engine with continuous batching will take on a machine of given numbers.

Two questions: how many steps, which depends on the requests alone, and how long a step is, which depends on the
machine. `machine_engine.py` runs the engine's own parts on the same machine, to compare with.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.machine import Machine


@dataclass(frozen=True)
class Forecast:
    """What it takes to serve some requests.

    Attributes:
        num_steps: forwards, prefills included.
        total_ms: for all of them.
        idle_share: the share of that time in which no forward runs, 0 to 1.
    """

    num_steps: int
    total_ms: float
    idle_share: float


def count_steps(wanted: Sequence[int], max_rows: int) -> int:
    """How many steps continuous batching takes, first come, first served.

    All requests are there from the start. Every step gives one token to each request that has a row, the step in which
    it joins included. A row that becomes free is taken by the next request in the step that follows.

    Args:
        wanted: the number of new tokens of each request, in the order of arrival; 1 or more each.
        max_rows: rows of a step, at least 1.

    Returns:
        the number of steps until the last request is done; 0 for no requests.
    """
    # BEGIN SOLUTION 2.7
    free_at = [0] * max_rows  # the step from which each row is free, the earliest first
    for tokens in wanted:
        heapq.heapreplace(free_at, free_at[0] + tokens)
    return max(free_at)
    # END SOLUTION


def forecast(machine: Machine, wanted: Sequence[int], max_rows: int) -> Forecast:
    """Forecast this chapter's engine on a machine.

    In each step, one after the other: the host works for `host_ms`; inputs are copied in, the forward runs, ids are
    copied out; then the host works for `row_ms` on each row of the step.

    Args:
        machine: what a step costs. The forward takes as long whatever its rows.
        wanted, max_rows: see `count_steps`; at least one request.
    """
    # BEGIN SOLUTION 2.7
    num_steps = count_steps(wanted, max_rows)
    each_ms = machine.host_ms + 2 * machine.copy_ms + machine.forward_ms
    total_ms = num_steps * each_ms + sum(wanted) * machine.row_ms
    return Forecast(num_steps, total_ms, 1 - num_steps * machine.forward_ms / total_ms)
    # END SOLUTION
