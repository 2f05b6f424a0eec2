"""The device's side of a step: the model's forward over the paged cache, then the sampler."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching.batch import BatchInputs
from ch02_continuous_batching.sampler import sample, sample_greedy
from toolkit.paged_attention import PagedBatch, PagedKVCache, use_paged_attention


class ModelRunner:
    """Owns the KV cache and runs the model.

    Attributes:
        model: switched to paged attention; its code is the library's.
        cache: the pool of KV blocks, on the model's device.
    """

    def __init__(self, model: PreTrainedModel, num_blocks: int, block_size: int) -> None:
        use_paged_attention(model)
        self.model = model
        self.cache = PagedKVCache.allocate(model, num_blocks, block_size)

    def forward(self, inputs: BatchInputs) -> Tensor:
        """Compute a packed batch whose tensors are on the model's device. See `run_model`."""
        return run_model(self.model, inputs, self.cache)


@torch.no_grad()
def run_model(model: PreTrainedModel, inputs: BatchInputs, cache: PagedKVCache) -> Tensor:
    """One forward and one sampled token for each row that samples. All tensors on the same device.

    Returns:
        the sampled ids, (samples,) int64, on the device; NO_TOKEN (-1) where the model gave no finite logit. Nothing
        here waits for it.
    """
    paged = PagedBatch(
        cache=cache,
        block_table=inputs.block_table,
        slot_mapping=inputs.slot_mapping,
        query_start=inputs.query_start,
        kv_lengths=inputs.kv_lengths,
        num_decode_rows=inputs.num_decode_rows,
        max_query_length=inputs.max_query_length,
    )
    logits = model(
        input_ids=inputs.input_ids[None],
        position_ids=inputs.position_ids[None],
        use_cache=False,
        logits_to_keep=inputs.sample_index,  # the vocabulary is wide: only rows that sample pay for it
        paged=paged,
    ).logits[0]
    if inputs.greedy:
        return sample_greedy(logits)
    return sample(logits, inputs.temperature, inputs.top_k, inputs.top_p, inputs.uniform)
