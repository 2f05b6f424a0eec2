"""The Triton kernels of paged attention. toolkit/triton_attention.py says how they are put together and launches them.

A Triton kernel is written for one *program*, a group of threads that works on small tiles as if they were NumPy
arrays; many programs run side by side, told apart by `tl.program_id`. Sizes in capitals are fixed when a kernel is
compiled. Nothing that a kernel branches on comes from the host: lengths, blocks and rows are read here, on the device.
"""

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
    log_sums,  # with several splits (SPLITS, rows, heads) float32: see below
    query,
    keys,
    values,
    block_table,
    kv_lengths,
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
    """One query token a row: program (kv head, row, split) computes the head's GROUP query heads over a part of the keys.

    The GROUP query heads that share a KV head stand in one tile, so their keys and values are read once. The tile is
    filled up to QUERIES = 16 or more, the fewest that the matrix units take.
    """
    head, row, split = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2)
    heads = tl.num_programs(0) * GROUP
    length = tl.minimum(tl.load(kv_lengths + row), capacity)
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


@triton.jit(do_not_specialize=["table_stride", "capacity", "num_tokens", "first_row", "num_rows", "search_steps"])
def prefill_kernel(
    out,  # (tokens, heads, HEAD_DIM)
    query,
    keys,
    values,
    block_table,
    query_start,
    kv_lengths,
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
    row: row r's programs begin at place query_start[r] // TOKENS + r, which leaves room for one that is partly filled
    (the way of vLLM's unified attention kernel, vllm/v1/attention/ops/triton_unified_attention.py). Behind the last
    row, one more "row" owns the packed tokens that belong to nobody; its programs write zeros.
    """
    place, head = tl.program_id(0) + first_row // TOKENS + first_row, tl.program_id(1)
    heads = tl.num_programs(1) * GROUP
    row, above = first_row, num_rows + 1  # the row is at least `row`, and below `above`
    for _ in range(search_steps):
        middle = (row + above) // 2
        found = tl.load(query_start + middle) // TOKENS + middle <= place
        row, above = tl.where(found, middle, row), tl.where(found, above, middle)
    is_row = row < num_rows
    row_start = tl.load(query_start + row)
    row_end = tl.minimum(tl.load(query_start + row + 1, mask=is_row, other=num_tokens), num_tokens)
    length = tl.minimum(tl.load(kv_lengths + row, mask=is_row, other=0), capacity)
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
