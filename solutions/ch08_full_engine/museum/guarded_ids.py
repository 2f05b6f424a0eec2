"""An engine that trusts nobody: the device checks every sampled id, and the host refuses a batch with a bad one.

The verdicts, one per row, come home with the ids: computed behind the forward, copied out on the d2h stream.

A true story: vLLM copied the numbers of accepted draft tokens to pinned memory without waiting, and read them in the
next step. It showed under asynchronous scheduling, where nothing else happens to wait in between.
https://github.com/vllm-project/vllm/pull/36013
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from ch02_continuous_batching import Batch, RequestOutput
from ch03_streams import IOSlot
from ch07_carry_over import AsyncEngine
from toolkit.device import DEVICE, accelerator


class GuardedEngine(AsyncEngine):
    """The asynchronous engine, with a check of the sampled ids.

    Attributes:
        device_valid, host_valid: for each slot, (rows,) bool: whether the id is one of the vocabulary's.
    """

    def set_up_device(self, model: PreTrainedModel) -> None:
        super().set_up_device(model)
        self.vocabulary: int = model.config.vocab_size
        rows = self.config.max_rows
        self.device_valid = {id(slot): torch.zeros(rows, dtype=torch.bool, device=DEVICE) for slot in self.slots}
        self.host_valid = {
            id(slot): torch.zeros(rows, dtype=torch.bool, device="cpu", pin_memory=True) for slot in self.slots
        }
        accelerator.synchronize()

    def run_forward(self, batch: Batch, slot: IOSlot) -> None:
        super().run_forward(batch, slot)
        self.device_valid[id(slot)].copy_(slot.device_ids < self.vocabulary)

    def queue(self, batch: Batch, slot: IOSlot) -> None:
        super().queue(batch, slot)
        with accelerator.stream(self.d2h):
            self.host_valid[id(slot)].copy_(self.device_valid[id(slot)], non_blocking=True)
            # BEGIN SOLUTION 8.7
            # BUG
            self.events[id(slot)].d2h_done.record()  # again: the event now stands behind this copy, too
            # END SOLUTION

    def commit(self, batch: Batch, slot: Any) -> list[RequestOutput]:  # noqa: ANN401 (see chapter 3)
        with self.timeline.host("wait", step=batch.step):
            self.wait_for(slot)
        if not all(self.host_valid[id(slot)][: len(batch.sampling_rows)].tolist()):
            raise RuntimeError(f"step {batch.step}: the device sampled an id that is not in the vocabulary")
        return super().commit(batch, slot)
