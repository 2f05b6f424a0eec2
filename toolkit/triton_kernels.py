"""Triton kernels: what decode and prefill share, decode, and writing. toolkit/triton_attention.py launches them.

A Triton kernel is written for one *program*, a group of threads that works on small tiles as if they were NumPy
arrays; many programs run side by side, told apart by `tl.program_id`. Sizes in capitals are fixed when a kernel is
compiled. Nothing that a kernel branches on comes from the host: lengths, blocks and rows are read here, on the device.
"""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl


@triton.jit
def attend(
    query,  # (QUERIES, HEAD_DIM) tile
    last_position,  # (QUERIES,) the last key position that each query may see
    keys,  # pointer to position 0, head h, of the layer's cache
    values,
    blocks,  # pointer to the row's part of the block table
    first,  # key positions first to end - 1 are looked at; none of them is past the row's length
    end,
    slot_stride,
    scale,
    QUERIES: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """The heart of FlashAttention: softmax(query @ keys.T) @ values, one tile of keys after the other.

    The softmax of a row needs the largest score, which is known only at the end. So it goes on with the largest one so
    far, and whenever a larger one turns up, what was summed is scaled down to match (*online softmax*: Milakov and
    Gimelshein, 2018; Dao et al., "FlashAttention", NeurIPS 2022). The scores never leave the registers. Sums are
    float32. Exponentials are powers of 2, which the hardware computes directly: scale holds the factor log2(e).

    Returns:
        largest (QUERIES,) and total (QUERIES,): of the scores in powers of 2, the maximum and the sum of the
        exponentials relative to it; -inf and 0 for a query that saw no key. summed (QUERIES, HEAD_DIM): values weighted
        by the same exponentials; divided by total it is the result.
    """
    dim = tl.arange(0, HEAD_DIM)
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    summed = tl.zeros([QUERIES, HEAD_DIM], tl.float32)
    for start in range(first, end, TILE):
        position = start + tl.arange(0, TILE)
        inside = position < end
        block = tl.load(blocks + position // BLOCK_SIZE, mask=inside, other=0).to(tl.int64)
        offset = (block * BLOCK_SIZE + position % BLOCK_SIZE) * slot_stride
        # What lies past the end may never have been written, and hold NaN; 0 * NaN is NaN, so zeros go in instead.
        key = tl.load(keys + offset[:, None] + dim[None, :], mask=inside[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key)) * scale
        visible = inside[None, :] & (position[None, :] <= last_position[:, None])
        scores = tl.where(visible, scores, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(scores, axis=1))
        # A query that has seen no key yet has the maximum -inf, and -inf - -inf is NaN: 0 stands in for it.
        reference = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weights = tl.exp2(scores - reference[:, None])
        shrink = tl.exp2(largest - reference)
        value = tl.load(values + offset[:, None] + dim[None, :], mask=inside[:, None], other=0.0)
        total = total * shrink + tl.sum(weights, axis=1)
        summed = tl.dot(weights.to(value.dtype), value, summed * shrink[:, None])
        largest = new_largest
    return largest, total, summed


@triton.jit(do_not_specialize=["table_stride", "capacity"])
def decode_kernel(
    out,  # (rows, heads, HEAD_DIM); with several splits (SPLITS, rows, heads, HEAD_DIM) float32
    log_sums,  # (SPLITS, rows, heads) float32, written where there are several splits: log2 of sums of exponentials
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
    GROUP: tl.constexpr,
    QUERIES: tl.constexpr,
    SPLITS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    TILE: tl.constexpr,
):
    """One query token a row: program (kv head, row, split) computes GROUP query heads over a part of the row's keys.

    The GROUP query heads that share a KV head stand in one tile, so their keys and values are read once. The tile is
    filled up to QUERIES = 16 or more, the fewest that the matrix units take.
    """
    head, row, split = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    heads = tl.num_programs(0) * GROUP
    length = tl.minimum(tl.load(seq_lens + row), capacity)
    # The parts are equal shares of the row's true length, in whole tiles: every split of a long row has as much to do.
    share = tl.cdiv(tl.cdiv(length, TILE), SPLITS) * TILE
    first = split * share
    end = tl.minimum(first + share, length)

    member = tl.arange(0, QUERIES)
    real = member < GROUP
    dim = tl.arange(0, HEAD_DIM)
    query_head = head * GROUP + member
    tile = query + row * query_stride + query_head[:, None] * query_head_stride + dim[None, :]
    largest, total, summed = attend(
        tl.load(tile, mask=real[:, None], other=0.0),
        tl.zeros([QUERIES], tl.int32) + length,
        keys + head * head_stride,
        values + head * head_stride,
        block_table + row * table_stride,
        first,
        end,
        slot_stride,
        scale,
        QUERIES,
        HEAD_DIM,
        BLOCK_SIZE,
        TILE,
    )
    # A split without keys has total 0: its result is 0, and the logarithm of its sum -inf, so it will weigh nothing.
    result = summed / tl.where(total == 0.0, 1.0, total)[:, None]
    place = (split * tl.num_programs(1) + row) * heads + query_head
    tl.store(out + place[:, None] * HEAD_DIM + dim[None, :], result.to(out.dtype.element_ty), mask=real[:, None])
    if SPLITS > 1:
        tl.store(log_sums + place, largest + tl.log2(total), mask=real)


@triton.jit
def combine_kernel(
    out,  # (rows, heads, HEAD_DIM)
    parts,  # (SPLITS, rows, heads, HEAD_DIM) float32
    log_sums,  # (SPLITS, rows, heads) float32
    SPLITS: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
):
    """Put the splits of one row and head together: the mean of their results, weighted by their sums."""
    place, places = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    split = tl.arange(0, SPLITS_PADDED)
    dim = tl.arange(0, HEAD_DIM)
    real = split < SPLITS
    log_sum = tl.load(log_sums + split * places + place, mask=real, other=float("-inf"))
    largest = tl.max(log_sum, axis=0)
    weight = tl.exp2(log_sum - tl.where(largest == float("-inf"), 0.0, largest))
    part = tl.load(parts + (split * places + place)[:, None] * HEAD_DIM + dim[None, :], mask=real[:, None], other=0.0)
    total = tl.sum(weight, axis=0)
    result = tl.sum(part * weight[:, None], axis=0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out + place * HEAD_DIM + dim, result.to(out.dtype.element_ty))


@triton.jit
def write_kernel(
    keys,
    values,
    slot_mapping,
    new_keys,
    new_values,
    slot_stride,
    key_stride,
    key_head_stride,
    value_stride,
    value_head_stride,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    WIDTH_PADDED: tl.constexpr,
):
    """Program (token): store its key and its value, WIDTH = kv_heads * HEAD_DIM numbers each, at its slot."""
    token = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, WIDTH_PADDED)
    real = number < WIDTH
    head, dim = number // HEAD_DIM, number % HEAD_DIM
    to = tl.load(slot_mapping + token) * slot_stride + number
    key = tl.load(new_keys + token * key_stride + head * key_head_stride + dim, mask=real)
    value = tl.load(new_values + token * value_stride + head * value_head_stride + dim, mask=real)
    tl.store(keys + to, key, mask=real)
    tl.store(values + to, value, mask=real)
