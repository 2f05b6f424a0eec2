"""A row that sampled NO_TOKEN carries it into the next batch, before the host knows: it must do no harm there."""

import torch

from ch02_continuous_batching import NO_TOKEN
from ch07_carry_over.build import build
from tests.helpers import VOCABULARY, tiny_model
from tests.simulated import needs_simulator

pytestmark = needs_simulator


def test_no_token_never_reaches_the_embedding():
    """The forward takes some token in its place. An embedding of -1 is an error, and on CUDA the process's end."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = build(tiny_model(), num_blocks=8, block_size=4, max_rows=3, token_budget=8)
    forward, (buffers, before) = engine.executor.forward, engine.executor.pool.buffers

    def after(carried: int) -> list[int]:
        before.device_ids.copy_(torch.tensor([7, carried, 9], dtype=torch.int64))
        buffers.device_inputs["carry_index"][:3] = torch.arange(3, dtype=torch.int64)
        forward.launch(buffers.forward_inputs, buffers.device_ids, buffers.full_decode)
        simgpu.synchronize()
        return buffers.device_ids.tolist()

    ordinary, seen = after(carried=0), after(carried=NO_TOKEN)
    assert (seen[0], seen[2]) == (ordinary[0], ordinary[2]), "its neighbours are as they were"
    assert 0 <= seen[1] < VOCABULARY
