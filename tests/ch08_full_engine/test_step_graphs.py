"""Graphs for mixed steps: every step is a replay, and the tokens stay right."""

import pytest

from ch02_continuous_batching import SamplingParams
from ch03_streams import BufferSizes
from ch06_graphs import on_accelerator
from ch07_carry_over import carry_padding
from ch08_full_engine import FullEngine, PackedBuffers, StepGraphs
from tests.ch08_full_engine.batches import inputs_of_rows
from tests.ch08_full_engine.full_runs import full_engine
from tests.helpers import tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator

pytestmark = needs_simulator


def run(policy: str, **limits) -> tuple[FullEngine, list[list[int]]]:
    """The full engine as on a GPU with the Triton kernels; the simulated GPU runs a graph's operations one by one."""
    from toolkit import simgpu

    simgpu.reset(policy, on_race="raise")
    limits = {"num_blocks": 80, "block_size": 4, "max_rows": 6, "token_budget": 32, "max_length": 40} | limits
    engine = full_engine(quickest_forward=StepGraphs)(on_accelerator(tiny_model()), **limits)

    def not_captured(*arguments) -> None:
        pytest.fail("a step was launched operation by operation; with graphs for mixed steps none has to be")

    engine.executor.forward.step = not_captured
    outputs = engine.generate(PROMPTS, SamplingParams(max_tokens=MAX_TOKENS))
    return engine, [list(output.output_ids) for output in outputs]


@pytest.mark.parametrize("policy", ["eager", "lazy", "random:1"])
def test_every_step_is_a_replay(policy: str):
    """Prompts, mixed and decode steps are all replayed, and give generate's tokens without a race."""
    _, outputs = run(policy)
    assert outputs == expected(), (
        "a mixed step's padding (rows without tokens, tokens without a row) reached a real row"
    )


def test_chunks_and_preemption():
    """Prompts in chunks, and requests computed again in a small pool, are mixed steps like any other."""
    _, outputs = run("random:2", num_blocks=12, token_budget=16)
    assert outputs == expected()


def test_a_graph_for_each_bucket_and_its_buffers():
    """Numbers of tokens from 16 up to the budget are captured, for both IO buffers, greedy and sampled."""
    engine, _ = run("eager", token_budget=40)
    forward = engine.executor.forward
    assert forward.token_buckets == [16, 32, 40]
    addresses = {buffers.device_ids.data_ptr() for buffers in engine.executor.pool.buffers}
    assert set(forward.mixed_graphs) == {(a, t, g) for a in addresses for t in (16, 32, 40) for g in (True, False)}


def test_rows_beyond_the_batch_have_no_token():
    """Behind a mixed batch query_start_loc stays at its last value; in a decode batch each row has a token."""
    sizes = BufferSizes(tokens=8, rows=4, width=2, trash_block=9, block_size=4)
    buffers = PackedBuffers(carry_padding(sizes), "sim")
    buffers.load(inputs_of_rows([0, 1, 6], num_decode_rows=1))
    assert buffers.host_inputs["query_start_loc"].tolist() == [0, 1, 6, 6, 6]
    buffers.load(inputs_of_rows([0, 1, 2], num_decode_rows=2))
    assert buffers.host_inputs["query_start_loc"].tolist() == [0, 1, 2, 3, 4]
