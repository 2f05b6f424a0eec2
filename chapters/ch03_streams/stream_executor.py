"""An executor with three streams: fast, and wrong.

A stream is a queue of device work. Work in one stream runs in order; work in different streams runs in any order, at
the same time if the hardware can. Copies to the device, the forward and copies back get a stream each, and the host
only queues work: launching returns at once.

What is missing is any word about what must come first. The forward does not wait for its inputs, the copy back does
not wait for the forward, and the host reads the ids without waiting for anything. Chapter 4 says these words.
"""

from collections.abc import Sequence
from contextlib import suppress

from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching.batch import Batch
from ch02_continuous_batching.compute import run_model
from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.observers import Observers
from ch03_streams.buffer_pool import BufferPool
from ch03_streams.io_buffers import IOBuffers, cut
from toolkit.device import DEVICE, accelerator, name_tensors, new_stream
from toolkit.forward import Forward, Sizes, Tensors
from toolkit.garbage import no_collection
from toolkit.paged_attention import PagedKVCache, use_paged_attention


def allocate_cache(model: PreTrainedModel, config: EngineConfig) -> Tensor:
    """A KV cache on the accelerator for a model, which is switched to paged attention. (See PagedKVCache.storage.)

    It has one block more than the manager hands out: rows beyond a batch read and write there.
    """
    use_paged_attention(model)
    storage = PagedKVCache.allocate(model, config.num_blocks + 1, config.block_size, DEVICE).storage
    name_tensors({"keys and values": storage}, of="the KV cache")
    return storage


def model_step(model: PreTrainedModel, tensors: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
    """What one launch of the forward computes: the model and the sampler of chapter 2 over the tensors of IO buffers.

    On the simulated GPU the model itself stays in host memory, where its forward runs as one simulated operation.
    """
    return run_model(model, cut(tensors, sizes), PagedKVCache(storage))


class StreamExecutor:
    """Runs batches over three streams, with nothing to order them.

    Args:
        pool: the IO buffers that batches go through.
        forward: the forward as one launch.

    Attributes:
        h2d, compute, d2h: the three streams.
    """

    def __init__(self, pool: BufferPool, forward: Forward, observers: Observers) -> None:
        self.pool, self.forward, self.observers = pool, forward, observers
        with no_collection():
            for buffers in pool.buffers:
                forward.capture_all(buffers.forward_inputs, buffers.device_ids, buffers.full_decode)
        self.h2d, self.compute, self.d2h = new_stream("h2d"), new_stream("compute"), new_stream("d2h")
        for buffers in pool.buffers:
            buffers.record_streams(self.h2d, self.compute, self.d2h)
        forward.storage.record_stream(self.compute)
        accelerator.synchronize()  # what was made on the default stream is there before any other stream uses it

    def launch(self, batch: Batch) -> IOBuffers:
        """Write the batch into IO buffers, then queue copies in, forward and copy out, each on its stream.

        Returns:
            the buffers whose host_ids will hold the sampled ids, some time later.
        """
        buffers = self.pool.buffers_for(batch)
        with self.observers.host("launch", step=batch.step):
            buffers.name_for(batch.step)
            buffers.load(batch.inputs)
            self.queue(batch, buffers)
        return buffers

    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue this executor's `copy_in`, `run`, `copy_out` (see below) in this order, each on its own stream.

        The streams are `self.h2d`, `self.compute` and `self.d2h`. Afterwards the current stream is what it was before.
        """
        raise NotImplementedError("ch03 exercise 3: A stream for each direction")

    def copy_in(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the copies of the inputs on the current stream."""
        with self.observers.device("copy in", lane="h2d", step=batch.step):
            buffers.copy_in()

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the forward on the current stream."""
        with self.observers.device("forward", lane="compute", step=batch.step):
            self.forward.launch(buffers.forward_inputs, buffers.device_ids, batch.inputs.sizes)

    def copy_out(self, batch: Batch, buffers: IOBuffers) -> None:
        """Queue the copy of the sampled ids on the current stream."""
        with self.observers.device("copy out", lane="d2h", step=batch.step):
            buffers.copy_out()

    def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
        """The sampled ids as they are in the buffers' pinned tensor at this moment. This chapter waits for nothing."""
        return buffers.read_ids(len(batch.sampling_rows))

    def drain(self) -> None:
        with suppress(Exception):  # the error that led here says more
            accelerator.synchronize()
