"""Carry-over in chapter 6's graphs: a replay applies the map of its own batch, and computes the tokens of generate."""

from typing import Any

import pytest

from ch02_continuous_batching import Batch, SamplingParams
from ch03_streams import IOBuffers
from ch04_events import EventExecutor
from ch07_carry_over import KEEP
from ch07_carry_over.build import build
from tests.helpers import swapped, tiny_model
from tests.simulated import PROMPTS, STEP_LIMIT, expected, needs_simulator

pytestmark = needs_simulator

LIMITS = {"num_blocks": 40, "block_size": 4, "max_rows": 4, "token_budget": 16, "max_length": 32}
ARRIVALS = {0: [0, 1], 3: [2], 4: [3], 8: [4], 9: [5]}  # step -> the prompts that come before it
LENGTHS = [8, 5, 8, 3, 6, 7]  # of their answers, so that rows change their places


class NotingExecutor(EventExecutor):
    """Notes the batches."""

    batches: list[Batch]

    def launch(self, batch: Batch) -> IOBuffers:
        self.batches.append(batch)
        return super().launch(batch)


def carried_rows(batch: Batch) -> list[tuple[int, int]]:
    """(row, the row of the batch before whose token it computes), of a batch in which every row decodes."""
    index: Any = batch.inputs
    return [(row, before) for row, before in enumerate(index.carry_index.tolist()) if before != KEEP]


@pytest.mark.exercise("7.2")
@pytest.mark.parametrize(
    ("asynchronous", "policy"),
    [(True, "lazy"), (True, "random:1"), (False, "lazy")],
    ids=["asynchronous-lazy", "asynchronous-random", "synchronous"],
)
def test_right_over_graphs(asynchronous: bool, policy: str):
    """Requests join and end, one by an end-of-sequence token: the tokens are right, and every decode step a replay."""
    from toolkit import simgpu

    simgpu.reset(policy)  # a race raises
    NotingExecutor.batches = batches = []
    engine = swapped(build, EventExecutor=NotingExecutor)(
        tiny_model(), asynchronous=asynchronous, graphs=True, **LIMITS
    )
    eos = expected()[2][3]
    engine.book.eos_ids = {eos}
    outputs: list[list[int]] = [[] for _ in LENGTHS]
    before = len(simgpu.spans())
    for step in range(STEP_LIMIT):
        for prompt in ARRIVALS.get(step, ()):
            engine.add_request(str(prompt), PROMPTS[prompt], SamplingParams(max_tokens=LENGTHS[prompt]))
        for output in engine.step():
            outputs[int(output.request_id)] += output.new_token_ids
        if step > max(ARRIVALS) and not engine.has_work:
            break
    for prompt, length in enumerate(LENGTHS):
        right = expected()[prompt][:length]
        right = right[: right.index(eos) + 1] if eos in right else right
        assert outputs[prompt] == right, (
            f"prompt {prompt}: its tokens are {right}, seen {outputs[prompt]}. A graph keeps the addresses that it was "
            "captured with, so it has to find the batch's own carry index, and the ids of the batch before, there"
        )
    decode = [batch for batch in batches if batch.inputs.sizes.is_decode]
    replays = [span.name for span in simgpu.spans()[before:]].count("graph replay")
    assert replays == len(decode), f"{len(decode)} of {len(batches)} batches decode; replayed were {replays}"
    assert len(decode) > len(batches) // 2, "most of these batches should decode, or this test sees little"
    carried = [rows for rows in map(carried_rows, decode) if rows]
    assert bool(carried) == asynchronous, f"tokens carried over in replays, for each of them: {carried}"
    moved = [rows for rows in carried if any(row != place for row, place in rows)]
    assert bool(moved) == asynchronous, "no row has changed its place: a map that stays the same would not be seen"
