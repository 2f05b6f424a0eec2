"""The Triton kernel for rows of one query token: decode.

It does nothing but read keys and values, so all processors should read all the time, and as long as each other. Each
row's keys are *split* over several programs for that (FlashDecoding: Dao, Haziza, Massa, Sizov, 2023), long rows over
more of them than short ones.
"""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl

from toolkit.triton_early import is_last, wait_for_the_kernel_before
from toolkit.triton_kernels import attend, nothing_yet

# Into how many parts a row's keys are split at most: the last program puts the parts together all alone.
MOST_PARTS = tl.constexpr(16)


@triton.jit
def part_of(place, seq_lens, rows, kv_heads, capacity, processors, ROWS: tl.constexpr, TILE: tl.constexpr):
    """Which part of which row's keys the program at a place works on.

    The rows' lengths decide: a row gets one program for every fair share that it has, and its programs have equal parts
    of it. A fair share is what each of the GPU's processors would get of all rows' tiles, and an eighth more: so where
    there are enough rows those of about the same length stay whole, and one that is longer than the others has many
    programs. Every program works that out alone, from all lengths.

    Returns:
        row (`rows` for a place that is not needed), its length, the part's number, and how many parts the row has.
    """
    each = tl.arange(0, ROWS)
    lengths = tl.minimum(tl.load(seq_lens + each, mask=each < rows, other=0), capacity)
    tiles = tl.cdiv(lengths, TILE)
    share = tl.cdiv(tl.sum(tiles, axis=0) * kv_heads, processors)
    share = tl.maximum(share + share // 8, tl.cdiv(tl.max(tiles, axis=0), MOST_PARTS))
    parts = tl.where(each < rows, tl.maximum(tl.cdiv(tiles, tl.maximum(share, 1)), 1), 0)
    ends = tl.cumsum(parts, axis=0)
    row = tl.minimum(tl.sum((ends <= place).to(tl.int32), axis=0), rows)
    mine = each == row
    count = tl.sum(tl.where(mine, parts, 0), axis=0)
    part = place - tl.sum(tl.where(mine, ends, 0), axis=0) + count
    return row, tl.sum(tl.where(mine, lengths, 0), axis=0), part, count


@triton.jit
def put_together(parts, log_sums, count, stride, real, QUERIES: tl.constexpr, HEAD_DIM: tl.constexpr):
    """The parts of one row's result, each weighted by its sum of exponentials: (QUERIES, HEAD_DIM).

    Args:
        parts: (QUERIES, HEAD_DIM) pointers to the first part. log_sums: (QUERIES,) pointers to its sum's log2.
        stride: between two parts, in heads.
    """
    largest, total, summed = nothing_yet(QUERIES, HEAD_DIM)
    for first in range(0, count, 4):
        for i in tl.static_range(4):  # four loads are under way at a time
            there = real & (first + i < count)
            skip = (first + i) * stride
            # Other programs have written them just now: they are in the cache that all processors share (.cg).
            log_sum = tl.load(log_sums + skip, mask=there, other=float("-inf"), cache_modifier=".cg")
            part = tl.load(parts + skip * HEAD_DIM, mask=there[:, None], other=0.0, cache_modifier=".cg")
            new_largest = tl.maximum(largest, log_sum)
            reference = tl.where(new_largest == float("-inf"), 0.0, new_largest)
            weight, shrink = tl.exp2(log_sum - reference), tl.exp2(largest - reference)
            total = total * shrink + weight
            summed = summed * shrink[:, None] + part * weight[:, None]
            largest = new_largest
    return summed / tl.where(total == 0.0, 1.0, total)[:, None]


@triton.jit(do_not_specialize=["table_stride", "capacity", "rows", "processors"])
def decode_kernel(
    out,  # (rows, heads, HEAD_DIM)
    parts,  # (places, heads, HEAD_DIM) float32
    log_sums,  # (places, heads) float32: log2 of the sums of exponentials
    arrived,  # (rows, kv heads) int32 zeros
    query,
    keys,
    values,
    block_table,
    seq_lens,
    query_stride,
    query_head_stride,
    slot_stride,
    head_stride,
    table_stride,
    capacity,  # positions that the block table has room for
    scale,
    rows,
    processors,
    GROUP: tl.constexpr,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One query token a row: program (kv head, place) computes GROUP query heads over a part of a row's keys.

    On an H100, 32 rows of 600 tokens, it takes about as long as it would with a fixed number of parts and a second
    kernel to put them together: 31.8 us (8b) where that took 33.7, 19.3 (1b) where 20.6, 11.0 (135m) where 10.4, and
    120 where 124 (1b, 256 rows). What it gains is balance where a row is longer than the others.

    The GROUP query heads that share a KV head stand in one tile, so their keys and values are read once. The tile is
    filled up to QUERIES = 16 or more, the fewest that the matrix units take.
    """
    head, place, kv_heads = tl.program_id(0), tl.program_id(1), tl.num_programs(0)
    row, length, part, count = part_of(place, seq_lens, rows, kv_heads, capacity, processors, ROWS, TILE)
    if row >= rows:
        return
    share = tl.cdiv(tl.cdiv(length, TILE), count) * TILE
    first = part * share
    row = row.to(tl.int64)
    member, dim = tl.arange(0, QUERIES), tl.arange(0, HEAD_DIM)
    real = member < GROUP
    query_head = head * GROUP + member
    wait_for_the_kernel_before(EARLY)
    tile = query + row * query_stride + query_head[:, None] * query_head_stride + dim[None, :]
    largest, total, summed = attend(
        tl.load(tile, mask=real[:, None], other=0.0),
        tl.zeros([QUERIES], tl.int32) + length,
        keys + head * head_stride,
        values + head * head_stride,
        block_table + row * table_stride,
        first,
        tl.minimum(first + share, length),
        slot_stride,
        scale,
        QUERIES,
        HEAD_DIM,
        BLOCK_SIZE,
        TILE,
    )
    # A part without keys has total 0: its result is 0, and the logarithm of its sum -inf, so it will weigh nothing.
    result = summed / tl.where(total == 0.0, 1.0, total)[:, None]
    heads = kv_heads * GROUP
    if count > 1:
        at = place * heads + query_head
        tl.store(parts + at[:, None] * HEAD_DIM + dim[None, :], result, mask=real[:, None])
        tl.store(log_sums + at, largest + tl.log2(total), mask=real)
        if not is_last(arrived + row * kv_heads + head, count):
            return
        at -= part * heads
        first_part = parts + at[:, None] * HEAD_DIM + dim[None, :]
        result = put_together(first_part, log_sums + at, count, heads, real, QUERIES, HEAD_DIM)
    to = (row * heads + query_head)[:, None] * HEAD_DIM + dim[None, :]
    tl.store(out + to, result.to(out.dtype.element_ty), mask=real[:, None])
