"""Chapter 6 as a whole: the engine whose decode steps are graphs, on the simulated GPU, model and all.

One test runs on CUDA as well.
"""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ch02_continuous_batching import Packer, Request, Row, SamplingParams
from ch02_continuous_batching.build import build as chapter_2
from ch05_double_buffering import PipelinedEngine
from ch06_graphs import GraphForward
from ch06_graphs.build import build
from tests.ch05_double_buffering.test_forced_races import tokens_of
from tests.ch06_graphs.toy_forward import graphs_are_found
from tests.helpers import VOCABULARY, swapped, tiny_model
from tests.simulated import (
    PROMPTS,
    STEP_LIMIT,
    Seen,
    assert_no_race,
    assert_tokens_right,
    expected,
    needs_simulator,
    overlap_ms,
    run_simulated,
)
from toolkit.forward import Sizes, Tensors

FEW_ROWS = {"max_rows": 4}  # half batches of at most 2 rows; 12 graphs
POLICIES = ["eager", "lazy", "threads", *(f"random:{seed}" for seed in range(5))]


class FoundGraphs(GraphForward):
    """Says in words which graph was not found."""

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        with graphs_are_found(self):
            super().launch(inputs, output, sizes)


found_graphs = swapped(build, GraphForward=FoundGraphs)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_simulated(found_graphs, **FEW_ROWS)


@needs_simulator
@pytest.mark.exercise("6.4")
def test_there_is_no_race(seen: Seen):
    """Over the whole run every two operations on the same bytes are ordered, those on the pool included."""
    assert_no_race(seen)


@needs_simulator
@pytest.mark.exercise("6.4")
@pytest.mark.parametrize("policy", POLICIES)
def test_right_under_every_policy(policy: str):
    """The tokens equal those of generate, in whatever order that CUDA's rules allow the device runs."""
    run = run_simulated(found_graphs, policy, **FEW_ROWS)
    assert_tokens_right(run, policy)


@needs_simulator
def test_full_batches_and_odd_buckets():
    """With max_rows 6 the buckets are 1, 2, 4 and 6, and half batches of 3 rows run in the bucket of 4."""
    run = run_simulated(build, "random:7")
    assert_no_race(run)
    assert run.outputs == expected()


@needs_simulator
def test_right_under_preemption():
    """Blocks that are freed while a batch is in flight are reused at once; padding rows never write into them."""
    run = run_simulated(build, "random:5", num_blocks=12, **FEW_ROWS)
    assert_no_race(run)
    assert run.outputs == expected()


def sampled_outputs(build: Callable[..., Any]) -> list[list[int]]:
    """Some greedy requests and some sampled ones, in the same batches and alone."""
    from toolkit import simgpu

    simgpu.reset("lazy")
    engine = build(tiny_model(), num_blocks=80, block_size=4, max_rows=4, token_budget=32)
    for i, prompt in enumerate(PROMPTS):
        params = SamplingParams(max_tokens=6, temperature=0.9 if i % 3 == 0 else 0.0, top_k=i, seed=i)
        engine.add_request(str(i), prompt, params)
    outputs: list[list[int]] = [[] for _ in PROMPTS]
    for _ in range(STEP_LIMIT):
        for output in engine.step():
            outputs[int(output.request_id)] += output.new_token_ids
        if not engine.has_work:
            break
    return outputs


@needs_simulator
def test_sampled_requests_get_the_tokens_of_chapter_2():
    """Sampled and greedy requests in one batch: the tokens are those of the synchronous engine without graphs."""
    assert sampled_outputs(build) == sampled_outputs(chapter_2)


@needs_simulator
@pytest.mark.overlap
def test_the_host_still_works_while_the_device_computes(seen: Seen):
    """Chapter 5's overlap is kept: no capture, no launch and no replay makes the host wait."""
    others = [wait for wait in seen.waits if not wait.startswith("Event.synchronize")]
    assert not others, f"the host waited in {others[0]}"
    assert len(seen.waits) == len(seen.recording.steps())
    assert overlap_ms(seen.recording, ("prepare", "commit", "launch")) > 0


@needs_simulator
def test_decode_steps_are_replays():
    """Nearly every step is one launch on the compute stream; only those with prompts are many."""
    from toolkit import simgpu

    run = run_simulated(build, **FEW_ROWS)
    on_compute = [span.name for span in simgpu.spans() if span.lane == "compute"]
    replays, steps = on_compute.count("graph replay"), len(run.recording.steps())
    assert 0.5 * steps < replays < steps, f"{steps} steps, {replays} replays"


def touched_blocks(rows: int, before: int) -> tuple[set[int], set[int], int]:
    """Run a decode step of `before` rows and then one of `rows` rows in the same IO buffers of an engine.

    Returns:
        the blocks that the second step has written, the blocks that its rows own, and the trash block.
    """
    from toolkit import simgpu

    simgpu.reset("lazy")
    engine = build(tiny_model(), num_blocks=24, block_size=4, max_rows=4)
    buffers, forward = engine.executor.pool.buffers[0], engine.executor.forward
    blocks = engine.scheduler.blocks
    blocks.free_blocks.rotate(-1)  # no request here owns block 0
    requests = [Request(str(i), [7 + i, 8, 9], SamplingParams(), arrival=i) for i in range(before)]
    for request in requests:
        blocks.allocate(request, 3)
    for count in (before, rows):
        chosen = [Row(request, request.epoch, start=2, num_tokens=1, samples=True) for request in requests[:count]]
        inputs = Packer(blocks).inputs(chosen)
        forward.storage.fill_(-1.0)
        buffers.load(inputs)
        buffers.copy_in()
        with graphs_are_found(forward):
            forward.launch(buffers.forward_inputs, buffers.device_ids, inputs.sizes)
        simgpu.synchronize()
    storage = forward.storage.cpu()  # (2, layers, blocks, block_size, kv_heads, head_dim)
    written = (storage != -1.0).transpose(0, 2).flatten(1).any(dim=1)
    owned = {block for row in chosen for block in row.request.block_table}
    return set(torch.nonzero(written).flatten().tolist()), owned, engine.entrance.config.num_blocks


@needs_simulator
@pytest.mark.exercise("6.3")
def test_padding_rows_touch_only_the_trash_block():
    """Three rows in the bucket of four, after four rows: only their blocks and the trash block are written."""
    written, owned, trash = touched_blocks(rows=3, before=4)
    assert owned <= written, f"the rows own the blocks {owned}, and only {written} were written: keys are missing"
    assert written <= owned | {trash}, (
        f"three rows own the blocks {owned}, the trash block is {trash}; the step in the bucket of 4 wrote {written}. "
        f"The padding row wrote into {written - owned - {trash}}, which may belong to a request"
    )


@needs_simulator
def test_the_model_in_host_memory_is_left_alone():
    """On the simulated GPU the engine works on a copy; other engines may go on with the model itself."""
    from toolkit import simgpu

    simgpu.reset()
    model = tiny_model()
    engine = build(model, num_blocks=8, block_size=4, max_rows=1)
    (captured,) = engine.executor.forward.forward.args
    assert model.device.type == "cpu" and captured.device.type == "sim"
    assert isinstance(engine, PipelinedEngine)


@pytest.mark.both
def test_right_on_either_device():
    """The tokens of generate, on a GPU as on the simulated one."""
    assert tokens_of(build, "lazy") == expected()


@needs_simulator
def test_no_report_while_requests_come_and_go():
    """Random arrivals, greedy and sampled, into a pool of blocks that is too small: no race, and no block is lost."""
    from toolkit import simgpu

    simgpu.reset("random:1")  # a race raises
    rng = random.Random(7)
    engine = build(tiny_model(), num_blocks=14, block_size=4, max_rows=4, token_budget=16)
    finished = 0
    while engine.num_steps < 150 or engine.has_work:
        if engine.num_steps < 150 and len(engine.scheduler.waiting) < 3:
            prompt = [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, 20))]
            params = SamplingParams(max_tokens=rng.randint(1, 12), temperature=rng.choice([0.0, 1.0]))
            engine.add_request(str(engine.book.num_requests), prompt, params)
        finished += sum(output.finish_reason is not None for output in engine.step())
    assert finished == engine.book.num_requests, f"{engine.book.num_requests} requests came, {finished} were finished"
    assert engine.scheduler.blocks.num_free_blocks == 14, "the engine is idle, but not all blocks are free"
