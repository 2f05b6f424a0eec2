"""Half the bytes: token ids fit into 32 bits, so they are narrowed on the device before they are copied out.

A true story: torchrec copied tensors to the host on a side stream and released their device memory, and values became
NaN. The repair is one line; a benchmark was then written that does nothing but reproduce the bug.
https://github.com/meta-pytorch/torchrec/pull/4231
"""

import torch
from transformers import PreTrainedModel

from ch02_continuous_batching import Batch
from ch03_streams import IOSlot
from ch07_carry_over import AsyncEngine
from toolkit.device import accelerator


class NarrowEngine(AsyncEngine):
    """The asynchronous engine whose ids come home as int32."""

    def set_up_device(self, model: PreTrainedModel) -> None:
        super().set_up_device(model)
        for slot in self.slots:
            slot.host_ids = torch.zeros(self.config.max_rows, dtype=torch.int32, device="cpu", pin_memory=True)

    def copy_out(self, batch: Batch, slot: IOSlot) -> None:
        """Queue the narrowing on the compute stream, behind the forward, and the copy on the current one, d2h."""
        with self.timeline.device("copy out", lane="d2h", step=batch.step):
            with accelerator.stream(self.compute):
                narrow = slot.device_ids.int()
            self.d2h.wait_stream(self.compute)
            # BEGIN SOLUTION 8.11
            # BUG
            narrow.record_stream(self.d2h)  # its memory is not given to another tensor before d2h is through with it
            # END SOLUTION
            slot.host_ids.copy_(narrow, non_blocking=True)
