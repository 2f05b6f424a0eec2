"""Operations for which the host needs values from the device, so that it waits: `.item()`, `nonzero`, masks as indices.

Each one is recorded as a hidden synchronisation. As on CUDA it waits for the current stream only.
"""

from typing import Any

import torch

from toolkit.simgpu.kernels import freeze_cpu_number, run_kernel, to_buffer
from toolkit.simgpu.new_tensors import new_device_tensor
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.schemas import Schema, map_tensors, tensors_in
from toolkit.simgpu.streams import current_stream
from toolkit.simgpu.tensors import SimTensor, footprints


def read_now(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """Queue the operation, wait for it, and return its result: a number, or tensors on the device."""
    name = schema.name
    if name == "equal" and _same_elements(*args):
        return True  # CUDA does not look at the values either
    runtime.refuse_in_capture(name)
    if schema.random:
        raise NotImplementedError(f"simgpu: random operation {schema.name}, whose result has a shape of its own")
    args, kwargs = map_tensors(freeze_cpu_number, (args, kwargs))
    buffers, keywords = map_tensors(to_buffer, (args, kwargs))
    reads = footprints(tensors_in((args, kwargs)))
    stream = current_stream()
    results: list[Any] = []
    engine = "d2h" if name == "item" else "compute"
    runtime.launch(stream, name, lambda: results.append(func(*buffers, **keywords)), reads, [], engine)
    runtime.host_wait(stream.moment(), name, hidden=True)
    values = list(tensors_in(results[0]))
    if not values:
        return results[0]
    shells = map_tensors(new_device_tensor, results[0])
    targets = list(tensors_in(shells))

    def fill() -> None:
        for target, value in zip(targets, values, strict=True):
            to_buffer(target).copy_(value)

    runtime.launch(stream, f"{name}'s result", fill, [], footprints(targets), cost_ms=0.0)
    return shells


def run_index(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """`x[indices]` and `x[indices] = values`. Indices may be on the CPU: they are copied to the device first, which is
    a blocking copy. A mask needs to be counted by the host, unless one number of the host's is written through it."""
    indices = [None if each is None else _on_device(each) for each in args[1]]
    args = (args[0], indices, *args[2:])
    has_mask = any(each is not None and each.dtype in (torch.bool, torch.uint8) for each in indices)
    if not has_mask or (schema.written and args[2].numel() == 1 and not isinstance(args[2], SimTensor)):
        return run_kernel(func, schema, args, kwargs)
    if not schema.written:
        return read_now(func, schema, args, kwargs)
    positions: list[torch.Tensor | None] = []
    for each in indices:
        if each is not None and each.dtype in (torch.bool, torch.uint8):
            positions += each.nonzero().unbind(1)
        else:
            positions.append(each)
    return run_kernel(func, schema, (args[0], positions, *args[2:]), kwargs)


def _same_elements(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Are these two names for the same elements of the same memory?"""
    return a.data_ptr() == b.data_ptr() and a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()


def _on_device(index: torch.Tensor) -> torch.Tensor:
    return index if isinstance(index, SimTensor) else index.to("sim")
