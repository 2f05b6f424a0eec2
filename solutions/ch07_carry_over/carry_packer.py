"""Carry-over in a batch's way through the engine: packed with a map, computed with the other batch's ids."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching import Batch, Packer, Row, run_model
from ch02_continuous_batching.batch import host_tensor
from ch03_streams import BufferSizes, IOBuffers, padding
from ch03_streams.io_buffers import cut
from ch07_carry_over.carry import KEEP, CarryInputs, apply_carry, carry_index
from toolkit.forward import Sizes, Tensors
from toolkit.paged_attention import PagedKVCache


class CarryPacker(Packer):
    """Packs one input more: the carry index."""

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        batch = super().pack(step, rows, previous)
        index = host_tensor(carry_index(batch.rows, previous), np.int64)
        return replace(batch, inputs=CarryInputs(**vars(batch.inputs), carry_index=index))


def carry_padding(sizes: BufferSizes) -> dict[str, Tensor]:
    """Chapter 3's padding, and that of the carry index."""
    return padding(sizes) | {"carry_index": torch.full((sizes.tokens,), KEEP, dtype=torch.int64, device="cpu")}


def link(first: IOBuffers, second: IOBuffers) -> list[IOBuffers]:
    """Let the forward of either's batch read the ids that the batch before it has sampled, in the other's tensor."""
    first.forward_inputs["previous_ids"] = second.device_ids
    second.forward_inputs["previous_ids"] = first.device_ids
    return [first, second]


def carry_step(model: PreTrainedModel, tensors: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
    """What one launch of the forward computes: the carried tokens are filled in first. See chapter 3's model_step."""
    inputs = cut(tensors, sizes)
    # A row may have sampled NO_TOKEN (-1), which the embedding must not see. Its request ends when the host reads
    # that, and what its row in this batch computes is dropped: any token will do.
    previous_ids = tensors["previous_ids"].clamp_min(0)
    carried = apply_carry(inputs.input_ids, tensors["carry_index"][: sizes.tokens], previous_ids)
    return run_model(model, replace(inputs, input_ids=carried), PagedKVCache(storage))
