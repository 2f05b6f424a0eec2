"""Ordinary operations: shapes now, numbers later.

The operation is run on torch's "meta" device first, which computes shapes and dtypes and raises the errors that CUDA
raises at the call. Then the real work is queued, on the plain CPU tensors behind the arguments.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from toolkit.simgpu import place
from toolkit.simgpu.known_values import foresee, remember
from toolkit.simgpu.new_tensors import new_device_tensor
from toolkit.simgpu.rows import footprints_of
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.schemas import Schema, map_tensors, tensors_in
from toolkit.simgpu.streams import current_stream
from toolkit.simgpu.tensors import PinnedTensor, Shell, SimTensor, footprints


def to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same shape, strides and dtype without data. (A CPU number stays: its value may matter.)"""
    if not isinstance(tensor, SimTensor):
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def to_buffer(tensor: torch.Tensor) -> torch.Tensor:
    """The plain CPU tensor behind a shell."""
    return tensor.buf if isinstance(tensor, Shell) else tensor


def freeze_cpu_number(tensor: torch.Tensor) -> torch.Tensor:
    """CUDA lets a zero-dimensional CPU tensor take part, by its value at the launch; others are an error."""
    if isinstance(tensor, SimTensor):
        return tensor
    if tensor.dim() > 0:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{place.name()} and {tensor.device}! (shape {tuple(tensor.shape)})"
        )
    if isinstance(tensor, PinnedTensor):
        runtime.host_touch("read of a number", [tensor.footprint()], [])
    return to_buffer(tensor).detach().clone()


def run_kernel(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """Queue an operation on the current stream; returns its result, whose values arrive later."""
    if not schema.on_cpu:
        raise NotImplementedError(f"simgpu does not model {func}, which torch has no kernel for on the CPU")
    args, kwargs = map_tensors(freeze_cpu_number, (args, kwargs))
    if schema.random:
        kwargs = _with_generator(schema, kwargs)
    if "device" in kwargs:
        kwargs = {**kwargs, "device": "cpu"}
    shapes = _shapes(func, schema, args, kwargs)
    if schema.written:
        return _run_in_place(func, schema, args, kwargs)
    buffers, keywords = map_tensors(to_buffer, (args, kwargs))
    result = map_tensors(new_device_tensor, shapes)
    targets = [to_buffer(each) for each in tensors_in(result)]

    def work() -> None:
        for target, value in zip(targets, tensors_in(func(*buffers, **keywords)), strict=True):
            if value.shape != target.shape or value.dtype != target.dtype:
                raise NotImplementedError(f"simgpu does not model {func}: its result has another shape on the CPU")
            target.copy_(value)

    made = tensors_in(result)
    _launch(func, schema, args, kwargs, work, tensors_in((args, kwargs)), made)
    return result


def _launch(
    func: torch._ops.OpOverload,
    schema: Schema,
    args: tuple,
    kwargs: dict,
    work: Callable[[], object],
    read: Sequence[torch.Tensor],
    written: Sequence[torch.Tensor],
) -> None:
    """Queue `work`, and keep what the host knows of the values that it will write."""
    stream, name = current_stream(), schema.name
    if schema.random or runtime.capture_on(stream) is not None:  # a graph runs again, with other values
        runtime.launch(stream, name, work, footprints(read), footprints(written))
        return
    values = foresee(func, name, args, kwargs, written)
    runtime.launch(stream, name, work, footprints_of(name, args, read), footprints_of(name, args, written))
    for target, value in zip(written, values or (), strict=values is not None):
        remember(target, value)


def _run_in_place(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """An in-place or `out=` operation: the arguments that it writes are its result."""
    written = schema.written_arguments(args, kwargs)
    targets = list(tensors_in(written))
    for each in targets:
        if not isinstance(each, SimTensor):
            raise RuntimeError(f"{schema.name}: the result is on {each.device}, not on {place.name()}")
    if not schema.all_returns_written:
        raise NotImplementedError(f"simgpu: {schema.name}, which returns new tensors and writes into others")
    buffers, keywords = map_tensors(to_buffer, (args, kwargs))
    read = [each for each in tensors_in((args, kwargs)) if not any(each is target for target in targets)]
    work = functools.partial(func, *buffers, **keywords)
    _launch(func, schema, args, kwargs, work, read, targets)
    returns = len(func._schema.returns)
    return None if returns == 0 else written[0] if returns == 1 else tuple(written)


_known_shapes: dict[tuple, Any] = {}


def _shapes(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """The results as tensors without data; remembered, since a model asks the same questions at every step."""
    tensors = tensors_in((args, kwargs))
    if schema.random or not all(isinstance(each, SimTensor) for each in tensors):
        return _ask_meta(func, schema, args, kwargs)  # a CPU number's value might matter
    key = (func, _describe(args), _describe(kwargs))
    if key not in _known_shapes:
        _known_shapes[key] = _ask_meta(func, schema, args, kwargs)
    return _known_shapes[key]


def _describe(value: Any) -> Any:  # noqa: ANN401 (arguments are of any type)
    """All that the shape of a result can depend on. (Types count: adding 1 and adding 1.0 give different dtypes.)"""
    if isinstance(value, torch.Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, dict):
        return tuple((name, _describe(each)) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(_describe(each) for each in value)
    return type(value), value


def _ask_meta(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    meta_args, meta_kwargs = map_tensors(to_meta, (args, kwargs))
    if "device" in kwargs:
        meta_kwargs["device"] = "meta"
    if schema.random:
        meta_kwargs["generator"] = None
    try:
        result = func(*meta_args, **meta_kwargs)
    except NotImplementedError as error:
        raise NotImplementedError(f"simgpu does not model {func}: torch cannot tell its result's shape") from error
    targets, metas = schema.written_arguments(args, kwargs), schema.written_arguments(meta_args, meta_kwargs)
    for tensor, meta in zip(tensors_in(targets), tensors_in(metas), strict=True):
        if tensor.shape != meta.shape:
            raise NotImplementedError(
                f"simgpu: {schema.name} would resize out= from {tuple(tensor.shape)} to {tuple(meta.shape)}; "
                "allocate it in its final shape"
            )
    return result


def _with_generator(schema: Schema, kwargs: dict) -> dict:
    """Random numbers depend on the order of the calls alone: each call gets a seed of its own when it is launched."""
    if not schema.takes_generator or kwargs.get("generator") is not None:
        raise NotImplementedError(f"simgpu: random operation {schema.name} (with an own generator, or without any)")
    if runtime.capture_on(current_stream()) is not None:
        raise NotImplementedError(f"simgpu: random operation {schema.name} in a graph")
    seed = int(torch.randint(2**62, (1,), generator=runtime.rng, dtype=torch.int64, device="cpu"))
    return {**kwargs, "generator": torch.Generator("cpu").manual_seed(seed)}
