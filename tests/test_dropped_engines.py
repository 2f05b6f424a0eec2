"""An engine that is dropped while the device still works for it: its memory must not be given to the next one."""

from typing import Any

import pytest

from ch02_continuous_batching import SamplingParams
from ch03_streams.build import build as build_ch03
from ch05_double_buffering.build import build as build_ch05
from ch06_graphs import on_accelerator
from ch06_graphs.build import build as build_ch06
from ch07_carry_over.build import build as build_ch07
from ch08_full_engine import FullEngine
from tests.helpers import random_prompts, tiny_model
from tests.simulated import needs_simulator

pytestmark = needs_simulator
# Not chapters 2 and 4, whose steps end with nothing in flight.
BUILDS = {"ch03": build_ch03, "ch05": build_ch05, "ch06": build_ch06, "ch07": build_ch07, "ch08": FullEngine}
LIMITS = {"block_size": 4, "num_blocks": 30, "max_rows": 4, "token_budget": 32}


def leave_in_flight(build: Any, model: Any) -> None:
    """Drop an engine after a few steps, with work in its queues."""
    engine = build(model, **LIMITS)
    for i, prompt in enumerate(random_prompts(4, seed=8, shortest=2, longest=9)):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=9, ignore_eos=True))
    for _ in range(3):
        engine.step()


@pytest.mark.parametrize("policy", ["lazy", "random:1", "random:2"])
@pytest.mark.parametrize("name", BUILDS)
def test_the_next_engine_does_not_get_memory_that_is_in_use(name: str, policy: str):
    """The second engine is built at once; whatever the first one has queued finds its own buffers, not the second's."""
    from toolkit import simgpu

    simgpu.reset(policy, on_race="collect")
    model = on_accelerator(tiny_model()) if name == "ch06" else tiny_model()  # an engine's weights are its caller's
    for _ in range(3):
        leave_in_flight(BUILDS[name], model)
    simgpu.synchronize()
    reused = [str(race) for race in simgpu.races() if "that was freed and given to" in str(race)]
    assert not reused, f"{len(reused)} races about memory that was given away; the first one:\n{reused[0]}"
