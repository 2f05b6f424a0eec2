"""No false alarm: a thousand steps with requests coming and going, and the detector stays silent."""

import random

import pytest

from ch02_continuous_batching import SamplingParams
from ch04_events import EventEngine
from ch05_double_buffering import DoubleBufferedEngine
from tests.helpers import VOCABULARY, tiny_model
from tests.simulated import needs_simulator

STEPS = 1000


@needs_simulator
@pytest.mark.parametrize(("engine_class", "policy"), [(EventEngine, "lazy"), (DoubleBufferedEngine, "random:1")])
def test_a_thousand_steps_without_a_report(engine_class: type, policy: str):
    """Random arrivals into a pool that is too small, so that blocks are freed and reused in flight all the time."""
    from toolkit import simgpu

    simgpu.reset(policy)  # a race raises
    rng = random.Random(7)
    engine = engine_class(tiny_model(), num_blocks=14, block_size=4, max_rows=6, token_budget=16)
    finished = 0
    while engine.num_steps < STEPS or engine.has_work:
        if engine.num_steps < STEPS and len(engine.scheduler.waiting) < 3:
            prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 20))]
            params = SamplingParams(max_tokens=rng.randint(1, 12), temperature=rng.choice([0.0, 1.0]))
            engine.add_request(str(engine.num_requests), prompt, params)
        finished += sum(output.finish_reason is not None for output in engine.step())
    assert finished == engine.num_requests, f"{engine.num_requests} requests came, {finished} were finished"
    assert engine.blocks.num_free_blocks == 14, "the engine is idle, but not all blocks are free"
    assert not simgpu.races()
