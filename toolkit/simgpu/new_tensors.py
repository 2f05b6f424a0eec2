"""New tensors in watched memory, on the device and pinned on the host."""

import torch

from toolkit.simgpu.blocks import Block
from toolkit.simgpu.memory_pools import pool_of_thread
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.streams import current_stream
from toolkit.simgpu.tensors import PinnedTensor, SimTensor
from toolkit.simgpu.unwritten import Unwritten


def _fill_byte(dtype: torch.dtype) -> int:
    """What memory holds that has not been written: NaN, a large negative number, or True. Never right by accident."""
    return 0xFF if dtype.is_floating_point or dtype.is_complex else 1 if dtype == torch.bool else 0xCC


def _bytes(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> int:
    if 0 in shape:
        return 0
    return (1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))) * dtype.itemsize


def new_device_tensor(like: torch.Tensor, *, poison: bool = False) -> SimTensor:
    """Allocate a tensor with the shape, strides and dtype of `like` on the current stream (in a capture: in its pool).

    Args:
        poison: nothing is about to be written into it: reused memory is garbage too (see unwritten.py).
    """
    shape, strides, dtype = tuple(like.shape), like.stride(), like.dtype
    stream, fill = current_stream(), _fill_byte(dtype)
    capture = runtime.capture_on(stream)
    pool = capture.pool if capture is not None else pool_of_thread()
    allocation = runtime.memory.allocate(_bytes(shape, strides, dtype), stream, pool, fill)
    block = allocation.block
    tensor = SimTensor(block.as_tensor(shape, strides, dtype), allocation)
    if capture is None and poison and block.generation:
        block.unwritten = Unwritten(block.data, tensor.footprint().region, fill)
    return tensor


def new_pinned_tensor(shape: tuple[int, ...], dtype: torch.dtype, strides: tuple[int, ...]) -> PinnedTensor:
    """Allocate pinned host memory, filled with garbage."""
    block = Block(max(_bytes(shape, strides, dtype), 1), "pinned")
    block.data.fill_(_fill_byte(dtype))
    return PinnedTensor(block.as_tensor(shape, strides, dtype), block)
