"""Triton kernels: what decode and prefill share, and writing. toolkit/triton_attention.py launches them.

A Triton kernel is written for one *program*, a group of threads that works on small tiles as if they were NumPy
arrays; many programs run side by side, told apart by `tl.program_id`. Sizes in capitals are fixed when a kernel is
compiled. Nothing that a kernel branches on comes from the host: lengths, blocks and rows are read here, on the device.
"""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl


@triton.jit
def nothing_yet(QUERIES: tl.constexpr, HEAD_DIM: tl.constexpr):
    """largest, total and summed (see `attend`) before the first key."""
    largest = tl.full([QUERIES], float("-inf"), tl.float32)
    return largest, tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES, HEAD_DIM], tl.float32)


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
    largest, total, summed = nothing_yet(QUERIES, HEAD_DIM)
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
