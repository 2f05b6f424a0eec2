"""What a step computes: the model's forward over the paged cache, then the sampler."""

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching.batch import BatchInputs
from ch02_continuous_batching.sampler import sample, sample_greedy
from toolkit.paged_attention import PagedBatch, PagedKVCache


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
        query_start_loc=inputs.query_start_loc,
        seq_lens=inputs.seq_lens,
        num_decode_rows=inputs.num_decode_rows,
        max_query_length=inputs.max_query_length,
    )
    logits = model(
        input_ids=inputs.input_ids[None],
        position_ids=inputs.position_ids[None],
        use_cache=False,
        logits_to_keep=inputs.logits_indices,  # the vocabulary is wide: only rows that sample pay for it
        paged=paged,
    ).logits[0]
    if inputs.greedy:
        return sample_greedy(logits)
    return sample(logits, inputs.temperature, inputs.top_k, inputs.top_p, inputs.uniform)
