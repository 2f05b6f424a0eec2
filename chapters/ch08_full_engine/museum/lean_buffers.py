"""Half of the pinned memory: both IO buffers share one set of pinned input tensors.

Pinned memory cannot be swapped out, so there is never much of it. On the device each has inputs of its own anyway.

A true story: vLLM reuses pinned input tensors from step to step, which raced with its asynchronous scheduling. A first
repair turned out to guard too few of them, and a second one followed (September 2025).
https://github.com/vllm-project/vllm/pull/25279
"""

from functools import partial

from ch02_continuous_batching import Batch, Observers
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch08_full_engine.museum.build import async_engine
from toolkit.forward import Forward


class LeanExecutor(EventExecutor):
    """Chapter 4's executor with one set of pinned inputs for both IO buffers.

    Attributes:
        latest: the buffers of the batch that was launched last; None before the first.
    """

    def __init__(self, pool: BufferPool, forward: Forward, observers: Observers) -> None:
        super().__init__(pool, forward, observers)
        first, second = pool.buffers
        second.host_inputs = first.host_inputs
        self.latest: IOBuffers | None = None

    def launch(self, batch: Batch) -> IOBuffers:
        """As in chapter 3: write the batch into its buffers' pinned tensors, then queue copies and forward."""
        buffers = self.pool.buffers_for(batch)
        with self.observers.host("launch", step=batch.step):
            buffers.name_for(batch.step)
            buffers.load(batch.inputs)
            self.queue(batch, buffers)
        self.latest = buffers
        return buffers


build = partial(async_engine, executor=LeanExecutor)
