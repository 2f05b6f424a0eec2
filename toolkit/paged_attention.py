"""Attention over a paged KV cache, for any Llama-family model of the transformers library.

The model's code stays the library's. Its attention layers call whatever function is registered under the name in
`config._attn_implementation`; here that is "paged". The function gets what the engine prepared for this step, a
`PagedBatch`, through the keyword `paged` of the model's forward:

    model(input_ids=ids[None], position_ids=positions[None], use_cache=False, paged=batch)

Rows are *packed*: the query tokens of all requests stand one behind the other in one dimension, with no padding
between them. Idea and names: Kwon et al., "Efficient Memory Management for Large Language Model Serving with
PagedAttention", SOSP 2023.

What computes it is chosen by itself (`attention_kernel_name`): Triton kernels on NVIDIA GPUs of compute capability 8.0
and higher, for head sizes 64 and 128 in float16 or bfloat16 (toolkit/triton_attention.py); elsewhere the plain torch
code below.

Nothing here reads a tensor's value on the host, so the device never has to be waited for.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from toolkit import triton_attention
from toolkit.paged_cache import PagedBatch, PagedKVCache

__all__ = [
    "PagedBatch",
    "PagedKVCache",
    "attention_kernel_name",
    "paged_attention",
    "plain_attention",
    "use_paged_attention",
    "write_kv",
]

PAGED = "paged"


def attention_kernel_name(tensor: Tensor) -> str:
    """What computes the attention, in words for outputs and recordings: "triton paged attention" or "plain torch".

    Args:
        tensor: queries, keys, values or a cache's storage: device and dtype count, and the last dimension, head_dim.
    """
    return "triton paged attention" if _uses_triton(tensor) else "plain torch"


def _uses_triton(tensor: Tensor) -> bool:
    return triton_attention.supports(tensor) and triton_attention.available(tensor.device)


def write_kv(cache: Tensor, slot_mapping: Tensor, new: Tensor) -> None:
    """Store this step's keys (or values), (tokens, kv_heads, head_dim), at their slots of one layer's cache."""
    cache.flatten(0, 1).index_copy_(0, slot_mapping, new)


def paged_attention(query: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch, scale: float) -> Tensor:
    """Causal attention of packed query tokens over their own rows' cached keys and values.

    Args:
        query: (tokens, heads, head_dim); `heads` is a multiple of kv_heads (grouped-query attention).
        keys, values: one layer of the cache, (num_blocks, block_size, kv_heads, head_dim).
        batch: rows and lengths; this step's keys and values are already written.
        scale: factor on the scores, usually head_dim ** -0.5.

    Returns:
        (tokens, heads, head_dim), in the dtype of `query`.
    """
    if _uses_triton(query):
        return triton_attention.attention(query, keys, values, batch, scale)
    return plain_attention(query, keys, values, batch, scale)


def plain_attention(query: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch, scale: float) -> Tensor:
    """`paged_attention` in plain torch, on any device: a row's keys and values are copied out of the cache first."""
    decode = batch.num_decode_rows
    parts = []
    if decode > 0:
        parts.append(_attend(query[:decode, None], keys, values, batch, slice(0, decode), scale)[:, 0])
    if decode < batch.seq_lens.shape[0]:
        # Rows of different lengths: spread the packed tokens over a (rows, longest) grid, attend, and pack them again.
        starts = batch.query_start_loc[decode:-1]
        token = torch.arange(decode, query.shape[0], device=query.device, dtype=starts.dtype)
        row = (torch.searchsorted(starts, token, right=True) - 1).clamp_min(0)
        # Inputs that arrive too late (chapter 3) shall give wrong numbers, not an address outside: that kills CUDA.
        offset = (token - starts[row]).clamp(0, batch.max_query_length - 1)
        grid = query.new_zeros(starts.shape[0], batch.max_query_length, *query.shape[1:])
        grid[row, offset] = query[decode:]
        parts.append(_attend(grid, keys, values, batch, slice(decode, None), scale)[row, offset])
    return torch.cat(parts)


def _attend(query: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch, rows: slice, scale: float) -> Tensor:
    """Attention of a grid of queries, (rows, queries, heads, head_dim); the shape of the result is the same."""
    table, seq_lens = batch.block_table[rows], batch.seq_lens[rows, None]
    query_lengths = batch.query_start_loc[1:][rows, None] - batch.query_start_loc[:-1][rows, None]
    key_position = torch.arange(table.shape[1] * keys.shape[1], dtype=torch.int64, device=query.device)
    offset = torch.arange(query.shape[1], dtype=torch.int64, device=query.device)
    query_position = seq_lens - query_lengths + offset
    causal = key_position <= query_position[..., None]  # (rows, queries, key positions)
    # A masked key weighs 0, but a block that was never written may hold NaN, and 0 * NaN is NaN: so zeros go in.
    unwritten = (key_position >= seq_lens)[..., None, None]
    row_keys = keys[table].flatten(1, 2).masked_fill(unwritten, 0)  # (rows, key positions, kv_heads, head_dim)
    row_values = values[table].flatten(1, 2).masked_fill(unwritten, 0)
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2),
        row_keys.transpose(1, 2),
        row_values.transpose(1, 2),
        attn_mask=causal[:, None],
        scale=scale,
        enable_gqa=True,
    )
    return out.transpose(1, 2)


@torch.compiler.disable  # a compiled layer calls it as it is: see toolkit/models/compiled.py
def _paged_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    paged: PagedBatch,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """The form in which transformers' attention layers call: query (1, heads, tokens, head_dim), key and value alike.

    Raises:
        NotImplementedError: the layer asks for something that plain causal attention does not compute.
    """
    for extra in ("sliding_window", "softcap", "s_aux"):
        if kwargs.get(extra) is not None:
            raise NotImplementedError(f"paged attention has no {extra}, which {type(module).__name__} asks for")
    layer: int = module.layer_idx  # type: ignore[assignment]
    keys, values = paged.cache.keys[layer], paged.cache.values[layer]
    new_keys, new_values = key[0].transpose(0, 1), value[0].transpose(0, 1)
    if _uses_triton(keys):
        triton_attention.write_kv(keys, values, paged.slot_mapping, new_keys, new_values)
    else:
        write_kv(keys, paged.slot_mapping, new_keys)
        write_kv(values, paged.slot_mapping, new_values)
    out = paged_attention(query[0].transpose(0, 1), keys, values, paged, scaling)
    return out[None], None


def use_paged_attention(model: PreTrainedModel) -> None:
    """Switch a model's attention layers to the paged cache. Its forward then needs the keyword `paged`."""
    AttentionInterface.register(PAGED, _paged_attention_forward)
    model.set_attn_implementation(PAGED)
