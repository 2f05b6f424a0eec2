"""The floor under a decode step: the bytes that it must read, over the memory bandwidth that this GPU reaches.

A decode step reads every weight once, whatever the batch, and the keys and values of every row. Nothing that an engine
does about scheduling can be quicker than that. (The bandwidth is that of a copy; reading alone may be 2 % quicker.)
"""

import copy

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from toolkit.models.shapes import SHAPES

COPY_BYTES = 2**30
COPIES = 20


def skeleton(name: str) -> PreTrainedModel:
    """A model of a named shape as a GPU has it, in bf16, without its weights: something to count bytes of."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(copy.deepcopy(SHAPES[name]), dtype=torch.bfloat16)


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of all weights; shared ones count once."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def cache_bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of a token's keys and values in all layers."""
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * model.dtype.itemsize


def step_bytes(model: PreTrainedModel, rows: int, context: float) -> int:
    """Bytes that a decode step of `rows` rows reads, each with `context` tokens in the cache."""
    config = model.config
    weights = weight_bytes(model)
    if not config.tie_word_embeddings:  # of an input embedding of its own only a few rows are looked up
        weights -= config.vocab_size * config.hidden_size * model.dtype.itemsize
    return int(weights + rows * context * cache_bytes_per_token(model))


def copy_bandwidth() -> float:
    """Bytes per second that a large copy within the GPU's memory reads and writes."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(COPIES):
        target.copy_(source)
    end.record()
    end.synchronize()
    return 2 * COPY_BYTES * COPIES / (start.elapsed_time(end) / 1e3)
