"""`torch.save` and `torch.load` within `as_cuda`: the file is the one that CUDA would write, and can be read anywhere.

What is pickled of a tensor is its storage, shared by its views, with the place where it was: "cuda:0", or "cpu" for
pinned memory. Both make the host wait as CUDA does: `save` for the current stream, which copies each storage to the
host, and `load` for the copy to the device. What other streams still do is not waited for, and so it is a race.
"""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch

from toolkit.simgpu.blocks import Block, Footprint
from toolkit.simgpu.memory import Allocation
from toolkit.simgpu.patches import Patches, refusing
from toolkit.simgpu.place import for_torch
from toolkit.simgpu.refusals import Refusals
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.tensors import PinnedTensor, Shell, SimTensor

_FIRST = 0  # among torch's ways to restore a storage; that of the CPU has 10
_INSIDE = {"buf", "allocation", "_footprint", "_is_param"}  # attributes of a shell that are not the program's
_REGISTRY: Any = torch.serialization._package_registry  # type: ignore[attr-defined]


class _Saving(threading.local):
    """What this thread's `torch.save` has copied to the host; None outside of it."""

    storages: dict[Block, torch.UntypedStorage] | None = None


_saving = _Saving()


def allow_checkpoints(patches: Patches) -> None:
    """Let a program save and load what lies on the device and in pinned memory."""
    save = _saver(torch.save)
    for module in (torch, torch.serialization):
        patches.set(module, "save", save)
    patches.set(Shell, "__reduce_ex__", _reduce)
    patches.set(torch.serialization, "_package_registry", [(_FIRST, lambda storage: None, _restore), *_REGISTRY])
    patches.set(torch.serialization, "_legacy_load", _refusing_the_device(torch.serialization._legacy_load))
    patches.set(torch._utils, "_restore_device_fake_mode", _placer(torch._utils._restore_device_fake_mode))
    advice = 'map_location="cuda" does the same'
    patches.set(torch.UntypedStorage, "cuda", refusing(f"the method cuda() of a storage; in torch.load {advice}"))


def _saver(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def save(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        is_new = all(args[4:5]) and kwargs.get("_use_new_zipfile_serialization", True)
        before, _saving.storages = _saving.storages, {} if is_new else None  # the old one knows no other place
        try:
            function(*args, **kwargs)
        finally:
            _saving.storages = before

    return save


def _reduce(x: Shell, protocol: object) -> tuple[Any, ...]:
    """As torch.Tensor.__reduce_ex__."""
    if _saving.storages is None:
        return Refusals.__reduce_ex__(x, protocol)
    state = {name: value for name, value in x.__dict__.items() if name not in _INSIDE}
    hooks: OrderedDict[Any, Any] = OrderedDict()
    if isinstance(x, torch.nn.Parameter):
        parts = x.detach(), x.requires_grad, hooks
        if state:
            return torch._utils._rebuild_parameter_with_state, (*parts, state)
        return torch._utils._rebuild_parameter, parts
    if state or x.dtype not in torch.storage._dtype_to_storage_type_map():
        what = f"the attribute {min(state)}" if state else str(x.dtype)
        raise NotImplementedError(f"simgpu: torch.save of a tensor on the device, or a pinned one, with {what}")
    storage = torch.storage.TypedStorage(wrap_storage=_on_host(x), dtype=x.dtype, _internal=True)
    storage._fake_device = torch.device(x.device)  # what is written as its place
    place = storage, x.storage_offset(), tuple(x.shape), x.stride()
    metadata = torch._utils.get_tensor_metadata(x.buf)  # is it read as conjugate, or as negative?
    return torch._utils._rebuild_tensor_v2, (*place, x.requires_grad, hooks, *([metadata] if metadata else []))


def _on_host(x: Shell) -> torch.UntypedStorage:
    """A copy of all the memory that x and its views share, made once in a file."""
    assert _saving.storages is not None and x.allocation is not None
    block = x.allocation.block if isinstance(x.allocation, Allocation) else x.allocation
    if block not in _saving.storages:
        is_as_it_lies = x.is_contiguous() and not torch._utils.get_tensor_metadata(x.buf)
        is_all = is_as_it_lies and x.nbytes == x.allocation.nbytes  # a report then tells its shape
        data = x.buf if is_all else block.as_tensor((x.allocation.nbytes // x.itemsize,), (1,), x.dtype)
        if isinstance(x, PinnedTensor):
            runtime.host_touch("torch.save", [Footprint(block, data)], [])
            copy = data.clone()
        else:
            copy = SimTensor(data, x.allocation).cpu()
        _saving.storages[block] = copy.untyped_storage()
    return _saving.storages[block]


def _restore(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage | None:
    """Storages that belong to the device are copied there; None for others, which are torch's."""
    if not location.startswith("cuda"):
        return None
    with torch.inference_mode(False), torch.no_grad():
        data = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage)
        storage._on_device = data.to(for_torch(location))  # type: ignore[attr-defined]
    return storage


def _placer(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The last step in making a tensor of a storage: those of a storage on the device get its memory there."""

    @functools.wraps(function)
    def place(x: torch.Tensor) -> torch.Tensor:
        there: SimTensor | None = None if isinstance(x, Shell) else getattr(x.untyped_storage(), "_on_device", None)
        if there is None:
            return function(x)
        data = there.buf.view(x.dtype).as_strided(x.shape, x.stride(), x.storage_offset())
        torch._utils.set_tensor_metadata(data, torch._utils.get_tensor_metadata(x))
        return there.view_of_same_memory(data).requires_grad_(x.requires_grad)

    return place


def _refusing_the_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """The old format fills the storages when the tensors have been made, which comes too late for the device."""

    @functools.wraps(function)
    def load(file: Any, map_location: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        restore = torch.serialization._get_restore_location(map_location)

        def on_host(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage:
            restored = restore(storage, location)
            if hasattr(restored, "_on_device"):
                raise NotImplementedError(
                    'simgpu: torch.load of the format before 1.6 to the device; map_location="cpu"'
                )
            return restored

        return function(file, on_host, *args, **kwargs)

    return load
