"""Triton code for the product of few tokens with a weight matrix, which takes as long as reading the matrix.

The product's *tiles* are rows of the matrix, TILE_N at a time, whose sums run over all its columns. Where there are
fewer tiles than the GPU has processors, a tile's columns are split over several programs, the last of which adds up
(*split-K*). Nothing is masked but tokens: rows and columns come in multiples of 64. toolkit/models/fused.py has the
sizes.

One after the other, without anything around them, on an H100 with 32 tokens, in us, beside the time of reading alone:

                        8b: q,k,v     o    gate,up   down    1b: q,k,v    o    gate,up   down
    these                    22.0  16.5       84.4   45.8          8.2   6.5      25.9   16.0
    cuBLAS                   25.0  15.4       86.6   47.7          7.8   6.8      27.5   18.8
    reading (3.0 TB/s)       16.7  11.2       78.0   39.0          4.2   2.8      22.3   11.2

With 256 tokens cuBLAS needs at most a third more than with 32. What is here has one tile of tokens, so it is for few.
"""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl

from toolkit.triton_early import is_last, prefetch


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
