"""Half of the pinned memory: both slots share one set of pinned input tensors.

Pinned memory cannot be swapped out, so there is never much of it. The device has its own inputs for each slot anyway.

A true story: vLLM reuses pinned input tensors from step to step, which raced with its asynchronous scheduling. A first
repair turned out to guard too few of them, and a second one followed (September 2025).
https://github.com/vllm-project/vllm/pull/25279
"""

from typing import Any

from transformers import PreTrainedModel

from ch02_continuous_batching import Batch
from ch07_carry_over import AsyncEngine


class LeanEngine(AsyncEngine):
    """The asynchronous engine with one set of pinned inputs for both slots."""

    def set_up_device(self, model: PreTrainedModel) -> None:
        super().set_up_device(model)
        first, second = self.slots
        second.host_inputs = first.host_inputs

    def launch(self, batch: Batch) -> Any:  # noqa: ANN401 (see chapter 3)
        """As in chapter 3: write the batch into its slot's pinned tensors, then queue copies and forward."""
        slot = self.free_slot(batch)
        with self.timeline.host("launch", step=batch.step):
            slot.name_for(batch.step)
            slot.load(batch.inputs)
            self.queue(batch, slot)
        return slot
