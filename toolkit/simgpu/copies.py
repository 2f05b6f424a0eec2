"""Copies between host and device, and when they make the host wait.

    from            to              blocking        non_blocking=True
    pinned          device          waits           returns at once; the source is read later
    pageable        device          waits           up to 64 KiB: copied to a staging area, returns at once; more: waits
    device          pinned          waits           returns at once; the target is written later
    device          pageable        waits           waits

"Waits" means: until the current stream has done everything up to the copy. A copy that changes the layout goes through
a temporary in ordinary (pageable) host memory, as PyTorch does it. So does a blocking copy that changes the dtype; with
non_blocking=True the dtype is changed on the device.
"""

from typing import Any

import torch

from toolkit.simgpu.kernels import run_kernel, to_buffer
from toolkit.simgpu.known_values import remember
from toolkit.simgpu.new_tensors import new_device_tensor, new_pinned_tensor
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.schemas import Schema
from toolkit.simgpu.streams import current_stream
from toolkit.simgpu.tensors import PinnedTensor, SimTensor, footprints

STAGED_BYTES = 64 * 1024  # CUDA driver: pageable copies up to this size are staged


def run_copy(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> torch.Tensor:
    """`target.copy_(source, non_blocking)` where at least one of the two is on the device."""
    target, source = args[0], args[1]
    non_blocking = bool(args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if isinstance(target, SimTensor) and isinstance(source, SimTensor):
        return run_kernel(func, schema, (target, source), {})
    torch.broadcast_shapes(source.shape, target.shape)  # raises as torch does
    if target.numel() == 0:
        return target
    if isinstance(target, SimTensor):
        _to_device(target, source, non_blocking)
    else:
        _to_host(target, source, non_blocking)
    return target


def _to_device(target: SimTensor, source: torch.Tensor, non_blocking: bool) -> None:
    pinned = isinstance(source, PinnedTensor)
    converted_there = non_blocking and source.shape == target.shape and source.is_contiguous()
    direct = pinned and (converted_there or _same_layout(target, source))
    if pinned and not direct:
        runtime.host_touch("H2D copy (converted on the host)", footprints([source]), [])
    must_wait = not non_blocking or (not direct and target.nbytes > STAGED_BYTES)
    if must_wait:
        runtime.refuse_in_capture("a blocking H2D copy")
    elif not direct and runtime.capture_on(current_stream()) is not None:
        raise NotImplementedError("simgpu: a copy from pageable memory in a graph; use a pinned source")
    stream, to, data = current_stream(), target.buf, to_buffer(source).detach()
    if not direct and not must_wait:
        data = data.clone()  # staged: the caller may change its memory at once
    reads = footprints([source]) if direct else []
    runtime.launch(stream, "H2D copy", lambda: to.copy_(data), reads, [target.footprint()], "h2d")
    if runtime.capture_on(stream) is None and all(runtime.detector.is_written(each) for each in reads):
        remember(target, data)
    if must_wait:
        runtime.host_wait(stream.moment(), _describe("H2D copy", non_blocking, pinned, direct), hidden=True)


def _to_host(target: torch.Tensor, source: SimTensor, non_blocking: bool) -> None:
    pinned = isinstance(target, PinnedTensor)
    direct = pinned and _same_layout(target, source)
    # A dtype is converted on the device before the copy, so only a change of layout needs a temporary on the host.
    direct = direct or (pinned and target.shape == source.shape and target.is_contiguous())
    must_wait = not (non_blocking and direct)
    if must_wait:
        runtime.refuse_in_capture("a blocking D2H copy")
    stream, to, data = current_stream(), to_buffer(target).detach(), source.buf
    writes = footprints([target])
    runtime.launch(stream, "D2H copy", lambda: to.copy_(data), [source.footprint()], writes, "d2h")
    if must_wait:
        runtime.host_wait(stream.moment(), _describe("D2H copy", non_blocking, pinned, direct), hidden=True)


def _describe(copy: str, non_blocking: bool, pinned: bool, direct: bool) -> str:
    if not non_blocking:
        return f"blocking {copy}"
    return f"non_blocking {copy}, {'pageable memory' if not pinned else 'through a pageable temporary'}"


def _same_layout(target: torch.Tensor, source: torch.Tensor) -> bool:
    """Can the bytes be moved as they lie?"""
    if target.dtype != source.dtype or target.shape != source.shape:
        return False
    if target.is_contiguous() and source.is_contiguous():
        return True
    return target.stride() == source.stride() and _fills_its_memory(target)


def _fills_its_memory(tensor: torch.Tensor) -> bool:
    """Do the elements lie without gaps or overlaps, in whatever order of dimensions?"""
    expected = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and step != expected:
            return False
        expected *= size
    return True


def run_to_copy(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """`tensor.to(...)`: a new tensor of another dtype, layout or device."""
    source, device = args[0], kwargs.get("device")
    here = "sim" if isinstance(source, SimTensor) else "cpu"
    there = here if device is None else torch.device(device).type
    if here == there == "sim":
        return run_kernel(func, schema, args, kwargs)
    if there not in ("cpu", "sim"):
        raise NotImplementedError(f"simgpu: a copy from {here} to {there}")
    non_blocking = kwargs.get("non_blocking") or False
    shape_of = torch.empty_strided(source.shape, source.stride(), dtype=source.dtype, device="meta")
    like = torch.empty_like(
        shape_of, dtype=kwargs.get("dtype"), memory_format=kwargs.get("memory_format") or torch.preserve_format
    )
    target: torch.Tensor
    if there == "sim":
        target = new_device_tensor(like)
    elif non_blocking:  # PyTorch gives the result pinned memory, and does not wait
        target = new_pinned_tensor(tuple(like.shape), like.dtype, like.stride())
    else:
        target = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="cpu")
    return run_copy(torch.ops.aten.copy_.default, schema, (target, source, non_blocking), {})
