"""The engine of chapter 2 on three streams: fast, and wrong.

A stream is a queue of device work. Work in one stream runs in order; work in different streams runs in any order, at
the same time if the hardware can. Copies to the device, the forward and copies back get a stream each, and the host
only queues work: launching returns at once.

What is missing is any word about what must come first. The forward does not wait for its inputs, the copy back does
not wait for the forward, and the host reads the ids without waiting for anything. Chapter 4 says these words.
"""

from contextlib import suppress
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching import Batch, Engine, RequestOutput, Row
from ch02_continuous_batching.model_runner import run_model
from ch03_streams.io_slot import IOSlot, cut, sizes_of
from toolkit.device import DEVICE, accelerator, host_work, name_tensors, new_stream
from toolkit.garbage import no_collection
from toolkit.paged_attention import PagedKVCache, use_paged_attention
from toolkit.sealed_forward import SealedForward, Sizes, Tensors


class StreamEngine(Engine):
    """Continuous batching over three streams and one input/output slot, with nothing to order them.

    Args as for `Engine`. The KV cache lies on the accelerator; on the simulated GPU the model itself stays in host
    memory, where its forward runs as one simulated operation.

    Attributes:
        h2d, compute, d2h: the three streams.
        slots: the input/output slots. One, until chapter 5.
        box: the forward as one launch.
    """

    num_slots = 1
    slot_class = IOSlot

    def set_up_device(self, model: PreTrainedModel) -> None:
        use_paged_attention(model)
        self.model = model
        config = self.config
        # One block more than the manager hands out: rows beyond a batch read and write there.
        trash_block = config.num_blocks
        cache = PagedKVCache.allocate(model, config.num_blocks + 1, config.block_size, DEVICE)
        name_tensors({"keys and values": cache.storage}, of="the KV cache")
        self.box = self.make_box(cache.storage)
        tokens = max(config.token_budget, config.max_rows)  # a decode step of all rows fits in any case
        width = min(self.blocks.blocks_for(self.max_length), config.num_blocks)
        self.slots = [
            self.slot_class(tokens, config.max_rows, width, trash_block, config.block_size, DEVICE)
            for _ in range(self.num_slots)
        ]
        with no_collection():
            for slot in self.slots:
                self.box.seal(self.inputs_of(slot), slot.device_ids, slot.full_decode)
        self.h2d, self.compute, self.d2h = new_stream("h2d"), new_stream("compute"), new_stream("d2h")
        accelerator.synchronize()  # what was made on the default stream is there before any other stream uses it

    def inputs_of(self, slot: IOSlot) -> Tensors:
        """The device tensors that the forward of a batch in `slot` reads, besides the KV cache."""
        return slot.device_inputs

    def make_box(self, storage: Tensor) -> Any:  # noqa: ANN401 (chapter 6 has a box of its own)
        """What makes one launch of the forward over this KV cache."""
        return SealedForward(self.forward, storage)

    def forward(self, tensors: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
        """What is in the box: the model and the sampler of chapter 2 over a slot's tensors."""
        return run_model(self.model, cut(tensors, sizes), PagedKVCache(storage))

    def make_batch(self, rows: list[Row]) -> Batch:
        # On the virtual clock the host's work costs what it is declared to cost; real time passes by itself.
        host_work(0.8 + 0.04 * len(rows), "prepare")
        return super().make_batch(rows)

    def commit_tokens(self, batch: Batch, token_ids: list[int]) -> list[RequestOutput]:
        host_work(0.5 + 0.04 * len(token_ids), "commit")
        return super().commit_tokens(batch, token_ids)

    def launch(self, batch: Batch) -> Any:  # noqa: ANN401 (chapter 2 returns a tensor here, this chapter a slot)
        """Write the batch into a slot, then queue copies in, forward and copy out, each on its stream.

        Returns:
            the slot whose host_ids will hold the sampled ids, some time later.
        """
        slot = self.free_slot(batch)
        with self.timeline.host("launch", step=batch.step):
            slot.name_for(batch.step)
            slot.load(batch.inputs)
            self.queue(batch, slot)
        return slot

    def free_slot(self, batch: Batch) -> IOSlot:
        """The slot for a new batch. With one batch at a time, one slot is enough."""
        return self.slots[0]

    def queue(self, batch: Batch, slot: IOSlot) -> None:
        """Queue this engine's `copy_in`, `run_forward`, `copy_out` (see below) in this order, each on its own stream.

        The streams are `self.h2d`, `self.compute` and `self.d2h`. Afterwards the current stream is what it was before.
        """
        raise NotImplementedError("ch03 exercise 3: A stream for each direction")

    def copy_in(self, batch: Batch, slot: IOSlot) -> None:
        """Queue the copies of the inputs on the current stream."""
        with self.timeline.device("copy in", lane="h2d", step=batch.step):
            slot.copy_in()

    def run_forward(self, batch: Batch, slot: IOSlot) -> None:
        """Queue the forward on the current stream."""
        with self.timeline.device("forward", lane="compute", step=batch.step):
            self.box.launch(self.inputs_of(slot), slot.device_ids, sizes_of(batch.inputs))

    def copy_out(self, batch: Batch, slot: IOSlot) -> None:
        """Queue the copy of the sampled ids on the current stream."""
        with self.timeline.device("copy out", lane="d2h", step=batch.step):
            slot.copy_out()

    def commit(self, batch: Batch, slot: Any) -> list[RequestOutput]:  # noqa: ANN401 (see launch)
        """Host: read the sampled ids out of the slot and hand each to its request."""
        with self.timeline.host("wait", step=batch.step):
            self.wait_for(slot)
        with self.timeline.host("commit", step=batch.step):
            return self.commit_batch(batch, slot.read_ids(len(batch.sampling_rows)))

    def wait_for(self, slot: IOSlot) -> None:
        """Wait until the slot's sampled ids are on the host. Nobody waits in this chapter."""

    def restart(self) -> None:
        """As in chapter 2, but what is queued on the device comes to its end first: it still uses slots and blocks."""
        with suppress(Exception):  # the error that led here says more
            accelerator.synchronize()
        super().restart()
