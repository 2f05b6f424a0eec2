"""The Triton kernel for rows of any number of query tokens: prefill chunks, and mixed steps."""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl

from toolkit.triton_kernels import attend


@triton.jit(do_not_specialize=["table_stride", "capacity", "num_tokens", "first_row", "num_rows", "search_steps"])
def prefill_kernel(
    out,  # (tokens, heads, HEAD_DIM)
    query,
    keys,
    values,
    block_table,
    query_start_loc,
    seq_lens,
    query_stride,
    query_head_stride,
    slot_stride,
    head_stride,
    table_stride,
    capacity,
    scale,
    num_tokens,
    first_row,  # rows before it are decode rows, one token each
    num_rows,
    search_steps,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    TOKENS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """Rows of any number of query tokens: program (place, kv head) computes up to TOKENS tokens of one row.

    How many programs a row needs is known on the device alone. So there are enough for any lengths, and each finds its
    row: row r's programs begin at place query_start_loc[r] // TOKENS + r, which leaves room for one that is partly
    filled (the way of vLLM's unified attention kernel, vllm/v1/attention/ops/triton_unified_attention.py). Behind the
    last row, one more "row" owns the packed tokens that belong to no row; its programs write zeros.
    """
    place, head = tl.program_id(0) + first_row // TOKENS + first_row, tl.program_id(1)
    heads = tl.num_programs(1) * GROUP
    row, above = first_row, num_rows + 1  # the row is at least `row`, and below `above`
    for _ in range(search_steps):
        middle = (row + above) // 2
        found = tl.load(query_start_loc + middle) // TOKENS + middle <= place
        row, above = tl.where(found, middle, row), tl.where(found, above, middle)
    is_row = row < num_rows
    row_start = tl.load(query_start_loc + row)
    row_end = tl.minimum(tl.load(query_start_loc + row + 1, mask=is_row, other=num_tokens), num_tokens)
    length = tl.minimum(tl.load(seq_lens + row, mask=is_row, other=0), capacity)
    first_token = row_start + (place - row_start // TOKENS - row) * TOKENS
    if (first_token < row_start) | (first_token >= row_end):
        return

    member = tl.arange(0, TOKENS * GROUP_PADDED)
    token = first_token + member // GROUP_PADDED
    query_head = head * GROUP + member % GROUP_PADDED
    real = (token < row_end) & (member % GROUP_PADDED < GROUP)
    dim = tl.arange(0, HEAD_DIM)
    tile = query + token.to(tl.int64)[:, None] * query_stride + query_head[:, None] * query_head_stride + dim[None, :]
    position = length - row_end + token  # the row's tokens are the last ones of its length
    largest, total, summed = attend(
        tl.load(tile, mask=real[:, None], other=0.0),
        position,
        keys + head * head_stride,
        values + head * head_stride,
        block_table + tl.where(is_row, row, 0).to(tl.int64) * table_stride,
        0,
        tl.minimum(length, tl.maximum(length - row_end + first_token + TOKENS, 0)),
        slot_stride,
        scale,
        TOKENS * GROUP_PADDED,
        HEAD_DIM,
        BLOCK_SIZE,
        TILE,
    )
    result = summed / tl.where(total == 0.0, 1.0, total)[:, None]
    to = (token.to(tl.int64) * heads + query_head)[:, None] * HEAD_DIM + dim[None, :]
    tl.store(out + to, result.to(out.dtype.element_ty), mask=real[:, None])
