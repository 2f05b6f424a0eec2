"""No false alarm: a thousand steps with requests coming and going, and the detector stays silent."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from ch02_continuous_batching import SamplingParams
from ch04_events.build import build as build_ch04
from ch05_double_buffering.build import build as build_ch05
from tests.helpers import VOCABULARY, tiny_model
from tests.simulated import needs_simulator

STEPS = 1000


@pytest.mark.long
@needs_simulator
@pytest.mark.parametrize(
    ("build", "policy"), [(build_ch04, "lazy"), (build_ch05, "random:1")], ids=["ch04-lazy", "ch05-random:1"]
)
def test_a_thousand_steps_without_a_report(build: Callable[..., Any], policy: str):
    """Random arrivals into a pool that is too small, so that blocks are freed and reused in flight all the time."""
    from toolkit import simgpu

    simgpu.reset(policy)  # a race raises
    rng = random.Random(7)
    engine = build(tiny_model(), num_blocks=14, block_size=4, max_rows=6, token_budget=16)
    finished = 0
    while engine.num_steps < STEPS or engine.has_work:
        if engine.num_steps < STEPS and len(engine.scheduler.waiting) < 3:
            prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 20))]
            params = SamplingParams(max_tokens=rng.randint(1, 12), temperature=rng.choice([0.0, 1.0]))
            engine.add_request(str(engine.book.num_requests), prompt, params)
        finished += sum(output.finish_reason is not None for output in engine.step())
    assert finished == engine.book.num_requests, f"{engine.book.num_requests} requests came, {finished} were finished"
    assert engine.scheduler.blocks.num_free_blocks == 14, "the engine is idle, but not all blocks are free"
    assert not simgpu.races()
