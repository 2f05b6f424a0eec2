"""What a step costs the host, counted in calls: a cost that is the same on every machine."""

import sys
from typing import Any

from figures.host_cost.timed_engine import idle, unsimulated
from tests.helpers import tiny_model

BLOCK_SIZE = 16
STEPS = 2 * BLOCK_SIZE  # in so many, each row fills two blocks


def calls_per_step(make: Any, rows: int, prefix_sharing: bool) -> float:
    """Calls of functions, Python's and C's, in a step in which all rows decode and nothing is queued on a device."""
    from ch02_continuous_batching import SamplingParams
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = make(
        tiny_model(),
        num_blocks=rows * 8,
        block_size=BLOCK_SIZE,
        max_rows=rows,
        token_budget=4 * rows,
        max_length=120,
        prefix_sharing=prefix_sharing,
    )
    engine.executor = idle(engine.executor)
    engine.observers.others = ()
    engine.executor.observers = engine.observers
    for i in range(rows):
        prompt = [3 + (i + place) % 80 for place in range(4 + i % BLOCK_SIZE)]
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=100, ignore_eos=True))
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    with unsimulated():
        for _ in range(16):
            engine.step()
        sys.setprofile(count)
        try:
            for _ in range(STEPS):
                engine.step()
        finally:
            sys.setprofile(None)
    assert len(engine.scheduler.running) == rows
    return calls / STEPS
