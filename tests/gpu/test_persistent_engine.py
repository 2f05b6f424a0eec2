"""Chapter 9's engine on a GPU: chapter 8's tokens bit for bit, and no wait but the one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch08_full_engine import FullEngine
from ch09_persistent_batch import PersistentEngine
from tests.ch08_full_engine import test_sweeps as sweeps
from tests.ch08_full_engine.scripted import Scripted, new_engine
from tests.gpu.bfloat16 import engine_model
from tests.gpu.test_full_engine import random_prompts

pytestmark = pytest.mark.gpu
LIMITS = {"num_blocks": 60, "block_size": 16, "max_rows": 4, "token_budget": 32, "max_length": 128}


@pytest.mark.parametrize("prefix_sharing", [True, False], ids=["shared", "unshared"])
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
def test_float32_equals_generate(asynchronous: bool, prefix_sharing: bool):
    """In float32 the tokens are exactly those that `generate` gives on the CPU; arrivals by step, roomy and tight."""
    for num_blocks in sweeps.POOLS.values():
        options = {"asynchronous": asynchronous, "prefix_sharing": prefix_sharing, "num_blocks": num_blocks}
        Scripted(engine_class=PersistentEngine, **options).run()


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
def test_chapter_8s_tokens_bit_for_bit(compiled: bool):
    """In bfloat16, greedy and sampled, prompts in chunks and requests that wait: the same batches, the same tokens."""
    model = copy.deepcopy(engine_model("small"))  # compiled in place, once for both
    prompts = random_prompts("small", 12, 60)

    def answers(make: Callable[..., Any]) -> list[tuple[int, ...]]:
        engine = make(model, compiled=compiled, **LIMITS)
        for i, prompt in enumerate(prompts):
            sampled = {"temperature": 0.8, "top_k": 20, "seed": i} if i % 3 == 0 else {}
            engine.add_request(str(i), prompt, SamplingParams(max_tokens=20 + i, **sampled))
        last = {}
        while engine.has_work:
            last |= {output.request_id: output.output_ids for output in engine.step() if output.finish_reason}
        return [last[str(i)] for i in range(len(prompts))]

    assert answers(PersistentEngine) == answers(FullEngine)


def test_nothing_but_the_wait_makes_the_host_wait():
    """Every step runs with CUDA's waits forbidden, but for `executor.wait`."""
    engine = PersistentEngine(engine_model("small"), **LIMITS)
    wait = engine.executor.wait

    def allowed(*arguments: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return wait(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    def raise_it(error: Exception) -> None:
        raise error

    engine.executor.wait, engine.recover = allowed, raise_it
    for i, prompt in enumerate(random_prompts("small", 8, 50)):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=12, temperature=0.8 * (i % 2)))
    torch.cuda.set_sync_debug_mode("error")
    try:
        while engine.has_work:
            engine.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert engine.metrics.finished == {"length": 8}


def test_events_in_flight():
    """Cancel, preempt, errors and names used again before every step, on one engine: all tokens right, nothing left."""
    engine = new_engine(engine_class=PersistentEngine, num_blocks=sweeps.POOLS["tight"])
    for name, event in sweeps.EVENTS.items():
        for step in range(sweeps.LAST_STEP):
            try:
                Scripted(engine=engine).run(step, event)
            except (AssertionError, RuntimeError) as error:
                raise AssertionError(f"{name} before step {step}: {error}") from error
