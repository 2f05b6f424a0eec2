"""Triton kernels for the matrix products of a decoder layer, for few tokens, each with what comes before and after it.

A product of few tokens with a weight matrix takes as long as reading the matrix. Its *tiles* are rows of the matrix,
TILE_N at a time, whose sums run over all its columns. Where there are fewer tiles than the GPU has processors, a tile's
columns are split over several programs, the last of which adds up (*split-K*). toolkit/models/fused.py has the sizes.

What stands between the products costs no kernels of its own:

- A *normalisation* divides a token's numbers by their root mean square, and multiplies them by a weight. Whoever
  writes the numbers knows the weight, and the sum of the squares in its tile. The division is the same for all numbers
  of a token, so the product that reads them can do it at its end, from the tiles' sums.
- The *residual sum*, SwiGLU (silu(gate) * up), the rotary embedding, and the write into the KV cache are done while the
  sums are still in registers. What is combined there are pairs of numbers that lie far apart, such as a gate and its
  up: so a tile takes a row of each in turn.

Nothing is masked but tokens: rows and columns come in multiples of 64.
"""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl

from toolkit.triton_early import is_last, prefetch, wait_for_the_kernel_before


@triton.jit
def multiply(
    x,  # (tokens, columns)
    weight,  # (rows, columns)
    row,  # (TILE_N,) the rows of this tile
    partial,  # SPLIT: (tiles, splits, TILE_N, TILE_T) float32
    arrived,  # SPLIT: (tiles,) int32 zeros
    tokens,
    columns,
    SPLIT: tl.constexpr,
    TILE_T: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
):
    """weight[row] @ x.T, (TILE_N, TILE_T) float32; and whether this program has it, of those that share the tile.

    The weights are the left factor, since that is the one which the matrix units want to have 64 rows or more.
    """
    tile, split, splits = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    token, column = tl.arange(0, TILE_T), tl.arange(0, TILE_K)
    share = tl.cdiv(columns // TILE_K, splits) * TILE_K
    first = split * share
    result = tl.zeros([TILE_N, TILE_T], tl.float32)
    for start in range(first, tl.minimum(first + share, columns), TILE_K):
        weights = tl.load(weight + row[:, None] * columns + (start + column)[None, :])
        at = token[None, :] * columns + (start + column)[:, None]
        numbers = tl.load(x + at, mask=token[None, :] < tokens, other=0.0)
        result = tl.dot(weights, numbers, result)
    complete = True
    if SPLIT:
        local = tl.arange(0, TILE_N)
        place = partial + tile * splits * TILE_N * TILE_T + local[:, None] * TILE_T + token[None, :]
        tl.store(place + split * TILE_N * TILE_T, result)
        complete = is_last(arrived + tile, splits)
        if complete:
            result = tl.zeros([TILE_N, TILE_T], tl.float32)
            for other in range(splits):
                result += tl.load(place + other * TILE_N * TILE_T, cache_modifier=".cg")
    return result, complete


@triton.jit
def look_ahead(weight, row, columns, TILE_K: tl.constexpr, AHEAD: tl.constexpr):
    """Ask for the first AHEAD columns that this program will need, while the kernel before still works."""
    if AHEAD > 0:
        share = tl.cdiv(columns // TILE_K, tl.num_programs(1)) * TILE_K
        line = tl.minimum(tl.program_id(1) * share + tl.arange(0, AHEAD // 64) * 64, columns - 64)
        prefetch(weight + row[:, None] * columns + line[None, :])


@triton.jit
def one_over_root_mean_square(squares, tiles, tokens, width, eps, TILES: tl.constexpr, TILE_T: tl.constexpr):
    """What the tokens' numbers are to be multiplied with, (TILE_T,); squares: (tiles, tokens), sums of squares."""
    tile, token = tl.arange(0, TILES)[:, None], tl.arange(0, TILE_T)[None, :]
    square = tl.load(squares + tile * tokens + token, mask=(tile < tiles) & (token < tokens), other=0.0)
    return tl.rsqrt(tl.sum(square, axis=0) / width + eps)


@triton.jit
def pairs(result, TILE_N: tl.constexpr, TILE_T: tl.constexpr):
    """The even rows of a tile, and the odd ones: two of (TILE_N // 2, TILE_T)."""
    return tl.split(tl.permute(tl.reshape(result, [TILE_N // 2, 2, TILE_T]), [0, 2, 1]))


@triton.jit(do_not_specialize=["tokens", "stream_tiles"])
def query_key_value_kernel(
    query,  # (tokens, heads, HEAD_DIM)
    keys,  # of one layer of the cache
    values,
    slot_mapping,
    angles,  # (tokens, HEAD_DIM) float32: cosines of the positions' angles, then sines
    x,  # (tokens, columns): the residual stream times the norm's weight
    weight,  # (heads + 2 * kv_heads) * HEAD_DIM rows
    squares,  # (stream_tiles, tokens) float32: of the residual stream
    partial,
    arrived,
    tokens,
    columns,
    stream_tiles,
    eps,
    heads,
    kv_heads,
    slot_stride,
    HEAD_DIM: tl.constexpr,
    SPLIT: tl.constexpr,
    STREAM_TILES: tl.constexpr,
    TILE_T: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
    AHEAD: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Normalise, multiply with the q, k and v weights, rotate queries and keys, and write keys and values to the cache.

    The numbers d and d + HEAD_DIM / 2 of a head are a point in a plane, turned by an angle. A tile is one head or half.
    """
    half: tl.constexpr = HEAD_DIM // 2
    tile, local, token = tl.program_id(0), tl.arange(0, TILE_N), tl.arange(0, TILE_T)
    head, real = tile * TILE_N // HEAD_DIM, token < tokens
    dim = tile * (TILE_N // 2) % half + tl.arange(0, TILE_N // 2)
    row = head * HEAD_DIM + tile * (TILE_N // 2) % half + local // 2 + local % 2 * half
    look_ahead(weight, row, columns, TILE_K, AHEAD)
    wait_for_the_kernel_before(EARLY)
    factor = one_over_root_mean_square(squares, stream_tiles, tokens, columns, eps, STREAM_TILES, TILE_T)
    turns = head < heads + kv_heads  # values don't
    angle = angles + token[None, :] * HEAD_DIM + dim[:, None]
    cosine = tl.where(turns, tl.load(angle, mask=real[None, :], other=0.0), 1.0) * factor[None, :]
    sine = tl.where(turns, tl.load(angle + half, mask=real[None, :], other=0.0), 0.0) * factor[None, :]
    slot = tl.load(slot_mapping + token, mask=real, other=0) * slot_stride
    result, complete = multiply(x, weight, row, partial, arrived, tokens, columns, SPLIT, TILE_T, TILE_N, TILE_K)
    if complete:
        if head < heads:
            to = query + token.to(tl.int64) * heads * HEAD_DIM + head * HEAD_DIM
        elif turns:
            to = keys + slot + (head - heads) * HEAD_DIM
        else:
            to = values + slot + (head - heads - kv_heads) * HEAD_DIM
        at = to[None, :] + dim[:, None]
        first, second = pairs(result, TILE_N, TILE_T)
        tl.store(at, (first * cosine - second * sine).to(x.dtype.element_ty), mask=real[None, :])
        tl.store(at + half, (second * cosine + first * sine).to(x.dtype.element_ty), mask=real[None, :])


@triton.jit(do_not_specialize=["tokens", "stream_tiles"])
def gate_up_kernel(
    out,  # (tokens, rows // 2)
    x,  # (tokens, columns): the residual stream times the norm's weight
    weight,  # (rows, columns): gate over up
    squares,  # (stream_tiles, tokens) float32: of the residual stream
    partial,
    arrived,
    tokens,
    rows,
    columns,
    stream_tiles,
    eps,
    SPLIT: tl.constexpr,
    STREAM_TILES: tl.constexpr,
    TILE_T: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
    AHEAD: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Normalise, multiply with the gate and up weights, and put the two together: silu(gate) * up."""
    local, token = tl.arange(0, TILE_N), tl.arange(0, TILE_T)
    start = tl.program_id(0) * (TILE_N // 2)
    row = start + local // 2 + local % 2 * (rows // 2)
    look_ahead(weight, row, columns, TILE_K, AHEAD)
    wait_for_the_kernel_before(EARLY)
    factor = one_over_root_mean_square(squares, stream_tiles, tokens, columns, eps, STREAM_TILES, TILE_T)
    result, complete = multiply(x, weight, row, partial, arrived, tokens, columns, SPLIT, TILE_T, TILE_N, TILE_K)
    if complete:
        gate, up = pairs(result * factor[None, :], TILE_N, TILE_T)
        at = token[None, :] * (rows // 2) + (start + tl.arange(0, TILE_N // 2))[:, None]
        tl.store(out + at, (gate * tl.sigmoid(gate) * up).to(x.dtype.element_ty), mask=token[None, :] < tokens)


@triton.jit(do_not_specialize=["tokens"])
def add_kernel(
    stream,  # (tokens, rows): the residual stream
    scaled,  # (tokens, rows): it times the next norm's weight
    squares,  # (tiles, tokens) float32: sums of its squares
    norm_weight,
    x,  # (tokens, columns)
    weight,  # (rows, columns)
    partial,
    arrived,
    tokens,
    rows,
    columns,
    SPLIT: tl.constexpr,
    TILE_T: tl.constexpr,
    TILE_N: tl.constexpr,
    TILE_K: tl.constexpr,
    AHEAD: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Multiply, add the product to the residual stream, and prepare the normalisation that follows."""
    tile, token = tl.program_id(0), tl.arange(0, TILE_T)
    row, real = tile * TILE_N + tl.arange(0, TILE_N), token < tokens
    look_ahead(weight, row, columns, TILE_K, AHEAD)
    norm = tl.load(norm_weight + row)
    wait_for_the_kernel_before(EARLY)
    at = token[None, :] * rows + row[:, None]
    before = tl.load(stream + at, mask=real[None, :], other=0.0)
    result, complete = multiply(x, weight, row, partial, arrived, tokens, columns, SPLIT, TILE_T, TILE_N, TILE_K)
    if complete:
        after = (before + result).to(x.dtype.element_ty)  # rounded, as the library's stream is
        tl.store(stream + at, after, mask=real[None, :])
        after = after.to(tl.float32)
        tl.store(scaled + at, (after * norm[:, None]).to(x.dtype.element_ty), mask=real[None, :])
        tl.store(squares + tile * tokens + token, tl.sum(after * after, axis=0), mask=real)
