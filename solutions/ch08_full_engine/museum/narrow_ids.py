"""Half the bytes: token ids fit into 32 bits, so they are narrowed on the device before they are copied out.

A true story: torchrec copied tensors to the host on a side stream and released their device memory, and values became
NaN. The repair is one line; a benchmark was then written that does nothing but reproduce the bug.
https://github.com/meta-pytorch/torchrec/pull/4231
"""

from functools import partial

import torch

from ch02_continuous_batching import Batch, Observers
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch08_full_engine.museum.build import async_engine
from toolkit.device import accelerator
from toolkit.forward import Forward


class NarrowExecutor(EventExecutor):
    """Chapter 4's executor, but the ids come home as int32."""

    def __init__(self, pool: BufferPool, forward: Forward, observers: Observers) -> None:
        super().__init__(pool, forward, observers)
        for buffers in pool.buffers:
            rows = buffers.device_ids.shape
            buffers.host_ids = torch.zeros(rows, dtype=torch.int32, device="cpu", pin_memory=True)

    def copy_out(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the narrowing on the compute stream, behind the forward, and the copy on the current one, d2h."""
        with self.observers.device("copy out", lane="d2h", step=batch.step):
            with accelerator.stream(self.compute):
                narrow = buffers.device_ids.int()
            self.d2h.wait_stream(self.compute)
            # BEGIN SOLUTION 8.11
            # BUG
            narrow.record_stream(self.d2h)  # its memory is not given to another tensor before d2h is through with it
            # END SOLUTION
            buffers.host_ids.copy_(narrow, non_blocking=True)


build = partial(async_engine, executor=NarrowExecutor)
