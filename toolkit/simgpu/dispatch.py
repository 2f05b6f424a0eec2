"""Every torch operation on the simulated device arrives here and is sent to the module that knows how to do it."""

from typing import Any

import torch

from toolkit.simgpu import place
from toolkit.simgpu.copies import run_copy, run_to_copy
from toolkit.simgpu.host_reads import read_now, run_index
from toolkit.simgpu.hostops import run_on_host
from toolkit.simgpu.kernels import run_kernel, to_buffer, to_meta
from toolkit.simgpu.launches import run_in_launch
from toolkit.simgpu.new_tensors import new_device_tensor
from toolkit.simgpu.random_ops import MADE_OF_OTHERS
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.schemas import Schema, map_tensors, schema_of, tensors_in
from toolkit.simgpu.tensors import Shell, SimTensor

_COPIES = {"copy_": run_copy, "_to_copy": run_to_copy}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
_VIEWED_ANEW = {"squeeze_", "unsqueeze_", "transpose_", "swapaxes_", "swapdims_", "t_", "as_strided_"}


def run(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401 (whatever the operation returns)
    """Do one torch operation: at once if it is the host's, else by queueing it on the current stream."""
    schema = schema_of(func)
    if runtime.in_box():
        return run_in_launch(func, schema, args, kwargs)
    with runtime.lock:
        return _run(func, schema, args, kwargs)


def _run(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    device = kwargs.get("device")
    to_device = device is not None and _is_here(torch.device(device))
    from_device = next((each for each in tensors_in((args, kwargs)) if isinstance(each, SimTensor)), None)
    if schema.name == "detach_":  # reached only in inference mode, where nothing is attached
        return args[0]
    if schema.reshapes:
        return _reshape_in_place(func, schema, args, kwargs)
    if schema.composite:  # reached only in inference mode, where autograd does not take it apart
        return func.decompose(*args, **kwargs)
    if from_device is None and not to_device:
        return run_on_host(func, schema, args, kwargs)
    if schema.name in _COPIES:
        return _COPIES[schema.name](func, schema, args, kwargs)
    if device is not None and not to_device:  # zeros_like(on_device, device="cpu"): only its shape is needed
        return func(*map_tensors(to_meta, args), **kwargs)
    if from_device is not None and (about := _about(func, schema, from_device, args)) is not None:
        return about
    if schema.allocates:
        return _allocate(func, args, kwargs)
    if schema.view:
        buffers, keywords = map_tensors(to_buffer, (args, kwargs))
        assert from_device is not None
        return map_tensors(from_device.view_of_same_memory, func(*buffers, **keywords))
    if schema.name in _INDEXED:
        return run_index(func, schema, args, kwargs)
    if schema.name in MADE_OF_OTHERS:
        return MADE_OF_OTHERS[schema.name](*args, **kwargs)
    if schema.host_reads:
        return read_now(func, schema, args, kwargs)
    return run_kernel(func, schema, args, kwargs)


def _is_here(device: torch.device) -> bool:
    if device.type == "sim" and device.index not in (None, 0):
        raise RuntimeError(f"invalid device ordinal: {device}, but there is only sim:0")
    return device.type == "sim"


def _about(func: torch._ops.OpOverload, schema: Schema, tensor: SimTensor, args: tuple) -> Any:  # noqa: ANN401
    """Questions about a tensor that need none of its values; None if it is not such a question."""
    if schema.name == "is_pinned":
        return False
    if schema.name == "_pin_memory":
        raise RuntimeError(f"cannot pin a tensor on {place.name()}: only dense CPU tensors can be pinned")
    if schema.name == "is_same_size":
        return tensor.shape == args[1].shape
    if schema.name == "_fused_sdp_choice":
        return 0  # scaled_dot_product_attention by its definition, from matrix products and a softmax
    return None


def _reshape_in_place(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Shell:
    """`x.squeeze_()` and its like (torch's own `matmul` uses it): only the way in which the memory is seen changes."""
    if schema.name not in _VIEWED_ANEW:
        raise NotImplementedError(f"simgpu: {schema.name} gives a tensor other memory in place; make a new tensor")
    shell = args[0]
    with torch._C._DisableTorchDispatch():  # torch changes the shell's own shape and strides
        func(*args, **kwargs)
    shell.see_as(tuple(shell.shape), shell.stride(), shell.storage_offset())
    return shell


def _allocate(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> SimTensor:
    if kwargs.get("pin_memory"):
        raise RuntimeError(f"cannot pin a tensor on {place.name()}: only dense CPU tensors can be pinned")
    keywords = {**map_tensors(to_meta, kwargs), "device": "meta", "pin_memory": None}
    return new_device_tensor(func(*map_tensors(to_meta, args), **keywords), poison=True)
