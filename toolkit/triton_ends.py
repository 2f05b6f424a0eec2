"""Triton kernels before the first and behind the last decoder layer. toolkit/models/fused.py launches them."""
# ruff: noqa: ANN001, ANN201 (a kernel's arguments are pointers and numbers: it is compiled, and has no Python types)

import triton
import triton.language as tl

from toolkit.triton_early import wait_for_the_kernel_before


@triton.jit(do_not_specialize=["tiles"])
def embed_kernel(
    stream,  # (tokens, WIDTH): the residual stream
    scaled,  # (tokens, WIDTH): it times the first norm's weight
    squares,  # (tiles, tokens) float32: here all squares count as the first tile's
    angles,  # (tokens, 2 * FREQUENCIES) float32
    embedding,
    ids,
    positions,
    norm_weight,
    frequencies,
    amplitude,
    tiles,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,  # WIDTH, filled up to a power of two
    FREQUENCIES: tl.constexpr,
):
    """Program (token): look up its embedding, and the cosines and sines of its position for the rotary embedding.

    The library takes some 15 kernels for it, 1 to 2 us each (H100); a whole layer of a small model takes 25 us.
    """
    token, tokens = tl.program_id(0), tl.num_programs(0)
    number = tl.arange(0, PADDED)
    real = number < WIDTH
    row = tl.load(embedding + tl.load(ids + token) * WIDTH + number, mask=real, other=0.0).to(tl.float32)
    at = token * WIDTH + number
    tl.store(stream + at, row.to(stream.dtype.element_ty), mask=real)
    norm = tl.load(norm_weight + number, mask=real, other=0.0)
    tl.store(scaled + at, (row * norm).to(scaled.dtype.element_ty), mask=real)
    for tile in range(tiles):
        tl.store(squares + tile * tokens + token, tl.where(tile == 0, tl.sum(row * row, axis=0), 0.0))
    frequency = tl.arange(0, FREQUENCIES)
    angle = tl.load(positions + token).to(tl.float32) * tl.load(frequencies + frequency)
    at = angles + token * 2 * FREQUENCIES + frequency
    tl.store(at, tl.cos(angle) * amplitude)
    tl.store(at + FREQUENCIES, tl.sin(angle) * amplitude)


@triton.jit
def norm_kernel(out, stream, norm_weight, eps, WIDTH: tl.constexpr, PADDED: tl.constexpr, EARLY: tl.constexpr):
    """Program (token): the last normalisation, which the library's model hands to its head."""
    number = tl.arange(0, PADDED)
    real = number < WIDTH
    norm = tl.load(norm_weight + number, mask=real, other=0.0)
    wait_for_the_kernel_before(EARLY)
    at = tl.program_id(0) * WIDTH + number
    row = tl.load(stream + at, mask=real, other=0.0).to(tl.float32)
    row *= tl.rsqrt(tl.sum(row * row, axis=0) / WIDTH + eps)
    tl.store(out + at, (row * norm).to(out.dtype.element_ty), mask=real)
