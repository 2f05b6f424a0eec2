"""Paged attention for NVIDIA GPUs: sizes and launches of the kernels in triton_decode.py and triton_prefill.py.

Plain torch (toolkit/paged_attention.py) first copies a row's keys and values out of the cache, as wide as the block
table, and then attends. These kernels look the blocks up while they read: each key and value is read once, and only up
to the row's true length. Decode is bound by that reading, so how much of the memory's bandwidth it reaches is all that
counts there.

- *Decode*. With one query token a row there is little to run side by side: rows times KV heads programs. So a row's
  keys may be split over several programs, the last of which puts their results together.
- *Prefill chunks and mixed steps* (FlashAttention): a program takes a few query tokens of one row, and walks over the
  keys that they may see.

A captured graph fixes the grid. So its size comes from shapes alone, which the host knows (rows, heads, the number of
processors). Lengths are read on the device, where they change from replay to replay, and so is which program works on
which row; those that are not needed end at once.
"""

import functools
import importlib.util
import math

import torch
from torch import Tensor

from toolkit.paged_cache import PagedBatch

# Tile sizes, warps (groups of 32 threads) and pipeline stages. There is no tuning at run time: a capture must be quick,
# and the same every time. Measured on an H100 with 32/8 heads of size 128, bfloat16, blocks of 16, 32 rows:
# decode takes 1.0 times the time of reading the keys and values at 4,096 tokens a row. Tiles of 128 are 2 % faster
# there with one split and 10 % slower at 8,000 tokens with two; tiles of 32 gain nothing. Of 24 sizes for prefill these
# are within 13 % of the best for prompts, and the best where decode rows of 8,000 tokens stand beside a chunk of 512.
DECODE = {
    64: {"TILE": 64, "num_warps": 2, "num_stages": 5},
    128: {"TILE": 32, "num_warps": 4, "num_stages": 5},
}
PREFILL = {"TILE": 64, "num_warps": 4, "num_stages": 3}
PREFILL_QUERIES = 64  # tokens times padded group of query heads, in a program's tile


@functools.cache
def available(device: torch.device) -> bool:
    """Whether the kernels run there: an NVIDIA GPU of compute capability 8.0 or higher, and Triton is installed."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def supports(tensor: Tensor) -> bool:
    """Whether the kernels compute with such queries, keys or values, whose last dimension is head_dim."""
    return tensor.shape[-1] in (64, 128) and tensor.dtype in (torch.float16, torch.bfloat16)


@functools.cache
def num_processors(device: torch.device) -> int:
    """Streaming multiprocessors of a GPU (an H100 has 132). Elsewhere, under Triton's interpreter, some number."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 8


def attention(query: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch, scale: float) -> Tensor:
    """What `toolkit.paged_attention.paged_attention` computes: same arguments, same result.

    Packed tokens that belong to no row (from query_start_loc[-1] on) come out as zeros. Lengths and row starts that do
    not fit the batch give wrong numbers, never an address outside the tensors.
    """
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    if batch.num_decode_rows > 0:
        decode(out, query, keys, values, batch, scale)
    if batch.num_decode_rows < query.shape[0]:
        prefill(out, query, keys, values, batch, scale)
    return out


def decode(
    out: Tensor,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    batch: PagedBatch,
    scale: float,
    arrived: Tensor | None = None,
    early: bool = False,
) -> None:
    """Write the results of the first `batch.num_decode_rows` rows, which have one token each.

    Args:
        arrived: int32 zeros, at least rows * kv_heads; zeros again afterwards. By default they are made.
        early: start before the kernel before has ended, which must be one that allows it (triton_early.py).
    """
    from toolkit.triton_decode import decode_kernel

    rows, heads, head_dim = batch.num_decode_rows, *query.shape[1:]
    block_size, kv_heads = keys.shape[1:3]
    group = heads // kv_heads
    processors = num_processors(query.device)
    places = rows + math.ceil(processors / kv_heads)  # a program for each row, and as many again for the long ones
    if arrived is None:
        arrived = torch.zeros(rows * kv_heads, dtype=torch.int32, device=out.device)
    log_sums = torch.empty(places, heads, dtype=torch.float32, device=out.device)
    parts = torch.empty(places, heads, head_dim, dtype=torch.float32, device=out.device)
    decode_kernel[kv_heads, places](
        out,
        parts,
        log_sums,
        arrived,
        query,
        keys,
        values,
        batch.block_table,
        batch.seq_lens,
        query.stride(0),
        query.stride(1),
        keys.stride(1),
        keys.stride(2),
        batch.block_table.stride(0),
        batch.block_table.shape[1] * block_size,
        scale * math.log2(math.e),
        rows,
        processors,
        GROUP=group,
        QUERIES=max(16, power_of_two(group)),
        ROWS=max(16, power_of_two(rows)),
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        EARLY=early,
        launch_pdl=early,
        **DECODE[head_dim],
    )


def prefill(out: Tensor, query: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch, scale: float) -> None:
    """Write the results of all other rows, and zeros for tokens without a row."""
    from toolkit.triton_prefill import prefill_kernel

    tokens, heads, head_dim = query.shape
    block_size, kv_heads = keys.shape[1:3]
    first, rows = batch.num_decode_rows, batch.seq_lens.shape[0]
    group = power_of_two(heads // kv_heads)
    tile_tokens = max(1, PREFILL_QUERIES // group)
    # One program for each full tile of tokens, one for each row, whose last tile is partly filled, and one for no row.
    programs = tokens // tile_tokens - first // tile_tokens + rows - first + 1
    prefill_kernel[programs, kv_heads](
        out,
        query,
        keys,
        values,
        batch.block_table,
        batch.query_start_loc,
        batch.seq_lens,
        query.stride(0),
        query.stride(1),
        keys.stride(1),
        keys.stride(2),
        batch.block_table.stride(0),
        batch.block_table.shape[1] * block_size,
        scale * math.log2(math.e),
        tokens,
        first,
        rows,
        (rows - first + 1).bit_length(),
        GROUP=heads // kv_heads,
        GROUP_PADDED=group,
        TOKENS=tile_tokens,
        HEAD_DIM=head_dim,
        BLOCK_SIZE=block_size,
        **PREFILL,
    )


def write_kv(keys: Tensor, values: Tensor, slot_mapping: Tensor, new_keys: Tensor, new_values: Tensor) -> None:
    """Store this step's keys and values, (tokens, kv_heads, head_dim), at their slots of one layer, with one launch.

    On an H100 it takes 2.2 us for 32 tokens, and two `index_copy_` 6.2 us.
    """
    from toolkit.triton_kernels import write_kernel

    tokens, kv_heads, head_dim = new_keys.shape
    width = kv_heads * head_dim
    write_kernel[(tokens,)](
        keys,
        values,
        slot_mapping,
        new_keys,
        new_values,
        keys.stride(1),
        new_keys.stride(0),
        new_keys.stride(1),
        new_values.stride(0),
        new_values.stride(1),
        HEAD_DIM=head_dim,
        WIDTH=width,
        WIDTH_PADDED=power_of_two(width),
    )


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << (number - 1).bit_length()
