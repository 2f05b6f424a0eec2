"""What the host does with pinned memory: done at once, on the real bytes, and checked against the copies in flight."""

from typing import Any

import torch

from toolkit.simgpu.blocks import Footprint
from toolkit.simgpu.kernels import to_buffer
from toolkit.simgpu.new_tensors import new_pinned_tensor
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.schemas import Schema, map_tensors, tensors_in
from toolkit.simgpu.tensors import PinnedTensor, footprints


def run_on_host(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """An operation on pinned (and perhaps ordinary) CPU tensors. New results are ordinary CPU tensors."""
    pinned = [each for each in tensors_in((args, kwargs)) if isinstance(each, PinnedTensor)]
    if schema.name == "is_pinned":
        return True
    if schema.name == "_pin_memory":
        return pin(args[0])
    buffers, keywords = map_tensors(to_buffer, (args, kwargs))
    if schema.view:
        return map_tensors(pinned[0].view_of_same_memory, func(*buffers, **keywords))
    if not schema.allocates:
        written = list(tensors_in(schema.written_arguments(args, kwargs)))
        writes = [each for each in pinned if any(each is target for target in written)]
        reads = [each for each in pinned if not any(each is target for target in writes)]
        runtime.host_touch(schema.name, footprints(reads), footprints(writes))
    with torch.no_grad():
        result = func(*buffers, **keywords)
    return map_tensors(lambda value: next((each for each in pinned if each.buf is value), value), result)


def write_on_host(target: torch.Tensor, values: torch.Tensor) -> None:
    """Write `values` into the beginning of `target`, in every dimension. Both are in host memory, of one dtype.

    Checked as a `copy_` would be, but done by this thread alone: torch's uses all cores.
    """
    part = to_buffer(target)[tuple(map(slice, values.shape))]
    writes = [Footprint(target.footprint().block, part)] if isinstance(target, PinnedTensor) else []
    runtime.host_touch("copy_", footprints([values]), writes)
    part.numpy()[...] = to_buffer(values).numpy()


def pin(source: torch.Tensor, device: object = None) -> PinnedTensor:
    """A copy of a CPU tensor in pinned memory (`tensor.pin_memory()`)."""
    if isinstance(source, PinnedTensor):
        return source
    if source.device.type != "cpu":
        raise RuntimeError(f"cannot pin a tensor on {source.device}: only dense CPU tensors can be pinned")
    strides = torch.empty_like(source.to("meta")).stride()
    target = new_pinned_tensor(tuple(source.shape), source.dtype, strides)
    target.buf.copy_(source.detach())
    return target
