"""The asynchronous engine: all requests in every batch, and no gap between the batches.

Batch N + 1 is scheduled, packed and launched while batch N is still running, with carry-over for the tokens that N has
yet to sample. The price of chapter 5 is gone: nobody sits out a step, and the weights are read once for everybody.

What the host does not know when it schedules N + 1 is how N ends. A request that certainly reaches its length limit
with N is not scheduled again. One that turns out to end with an end-of-sequence token or a stop string in N is in
N + 1 all the same, and runs one step too far: its row is dropped at commit, because its epoch has moved on.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching import Batch, Request, Row, Scheduler
from ch02_continuous_batching.batch import host_tensor
from ch02_continuous_batching.model_runner import run_model
from ch03_streams import IOSlot
from ch03_streams.io_slot import cut
from ch05_double_buffering import DoubleBufferedEngine
from ch07_carry_over.carry import KEEP, CarryInputs, apply_carry, carry_index
from toolkit.checked import truth
from toolkit.paged_attention import PagedKVCache
from toolkit.sealed_forward import Sizes, Tensors


class CarryScheduler(Scheduler):
    """Schedules tokens that are still in flight as if they were known: the device will fill them in."""

    def num_tokens_for(self, request: Request) -> int:
        """As in chapter 2, but a pending sample counts as one more token that can be computed.

        0 for a request that will have all its `max_tokens` tokens once its pending samples are in: it ends there.
        """
        raise NotImplementedError("ch07 exercise 3: Schedule what is still in flight")

    def _row(self, request: Request, num_tokens: int) -> Row:
        """As in chapter 2, but the last token of a request may be a pending one: the row samples if it reaches it."""
        raise NotImplementedError("ch07 exercise 3: Schedule what is still in flight")


class CarrySlot(IOSlot):
    """An input/output slot with one input more: the carry index."""

    def make_padding(self, tokens: int, rows: int, width: int, trash_block: int, block_size: int) -> dict[str, Tensor]:
        padding = super().make_padding(tokens, rows, width, trash_block, block_size)
        return padding | {"carry_index": torch.full((tokens,), KEEP, dtype=torch.int64, device="cpu")}


class AsyncEngine(DoubleBufferedEngine):
    """Continuous batching, asynchronous: two batches in flight, every request in both.

    Args:
        asynchronous: False commits each batch before the next is prepared, with the same functions and the same
            results; the difference in time is what asynchrony is worth.
        The others are those of Engine.
    """

    slot_class = CarrySlot

    def __init__(
        self,
        model: PreTrainedModel,
        *arguments: Any,  # noqa: ANN401 (those of Engine)
        asynchronous: bool = True,
        **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
    ) -> None:
        self.max_in_flight = 2 if truth("asynchronous", asynchronous) else 1
        super().__init__(model, *arguments, **limits)

    def make_scheduler(self) -> Scheduler:
        super().make_scheduler()  # sets up the queue of batches in flight
        config = self.config
        return CarryScheduler(self.blocks, config.max_rows, config.token_budget, config.policy)

    def make_batch(self, rows: list[Row]) -> Batch:
        batch = super().make_batch(rows)
        previous = self.in_flight[-1][0] if self.in_flight else None
        index = host_tensor(carry_index(batch.rows, previous), np.int64)
        return replace(batch, inputs=CarryInputs(**vars(batch.inputs), carry_index=index))

    def inputs_of(self, slot: IOSlot) -> Tensors:
        """A slot's own tensors, and the sampled ids of the other slot, where the batch before leaves them."""
        other = self.slots[1 - self.slots.index(slot)]
        return slot.device_inputs | {"previous_ids": other.device_ids}

    def forward(self, tensors: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
        inputs = cut(tensors, sizes)
        # A row may have sampled NO_TOKEN (-1), which the embedding must not see. Its request ends when the host reads
        # that, and what its row in this batch computes is dropped: any token will do.
        previous_ids = tensors["previous_ids"].clamp_min(0)
        carried = apply_carry(inputs.input_ids, tensors["carry_index"][: sizes.tokens], previous_ids)
        return run_model(self.model, replace(inputs, input_ids=carried), PagedKVCache(storage))
