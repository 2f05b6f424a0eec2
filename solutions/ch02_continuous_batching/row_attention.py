"""Attention over the paged cache, one row at a time: what toolkit/paged_attention.py does for all rows at once.

The engine uses the toolkit's. This one is short enough to be read in a minute, and gives the same numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from toolkit.paged_attention import PagedBatch


def gather(cache: Tensor, block_table: Tensor, seq_len: int) -> Tensor:
    """Copy one row's keys (or values) out of its blocks, in the order of their positions.

    Args:
        cache: one layer's keys or values, (num_blocks, block_size, kv_heads, head_dim).
        block_table: (blocks,) int; block number `i` of the table holds the row's positions i * block_size and
            following. It may be longer than the row needs: what comes after is not the row's.
        seq_len: how many positions the row has in the cache, at least 1.

    Returns:
        (seq_len, kv_heads, head_dim): nothing of other rows, and no place of the last block that is not written yet.
    """
    # BEGIN SOLUTION 2.6
    return cache[block_table].flatten(0, 1)[:seq_len]
    # END SOLUTION


def visible(num_queries: int, seq_len: int) -> Tensor:
    """Which positions each of a row's query tokens may look at: its own and all earlier ones.

    Args:
        num_queries: tokens of the row in this step. They are its *last* ones: the first of them is at position
            seq_len - num_queries.
        seq_len: how many positions the row has in the cache, these included.

    Returns:
        (num_queries, seq_len) bool, on the host.
    """
    # BEGIN SOLUTION 2.6
    query_position = torch.arange(seq_len - num_queries, seq_len, dtype=torch.int64, device="cpu")
    key_position = torch.arange(seq_len, dtype=torch.int64, device="cpu")
    return key_position <= query_position[:, None]
    # END SOLUTION


def row_by_row(query: Tensor, keys: Tensor, values: Tensor, batch: PagedBatch, scale: float) -> Tensor:
    """`toolkit.paged_attention.paged_attention` with a loop over the rows; arguments and result are the same.

    It asks for row lengths on the host, so a device would have to be waited for. That is one reason why the engine
    does not use it; the other is that every row would be several launches.
    """
    parts = []
    starts = batch.query_start_loc.tolist()
    for row, seq_len in enumerate(batch.seq_lens.tolist()):
        mine = query[starts[row] : starts[row + 1]]
        row_keys, row_values = (gather(cache, batch.block_table[row], seq_len) for cache in (keys, values))
        out = F.scaled_dot_product_attention(
            mine.transpose(0, 1),  # (heads, queries, head_dim)
            row_keys.transpose(0, 1),
            row_values.transpose(0, 1),
            attn_mask=visible(len(mine), seq_len).to(query.device),
            scale=scale,
            enable_gqa=True,
        )
        parts.append(out.transpose(0, 1))
    return torch.cat(parts)
