"""Functions of torch that are given a device are given "sim" where the program says "cuda"."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._device import DeviceContext, _device_constructors

from toolkit.simgpu.patches import Patches, refusing
from toolkit.simgpu.place import for_torch

_LIKE = ("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "randint_like", "normal")
_METHODS = ("to", "new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full", "new_tensor", "is_pinned")


def translate(patches: Patches) -> None:
    """Let torch's functions understand the device "cuda"."""
    constructors = {each.__name__ for each in _device_constructors()} | set(_LIKE)
    for module in (torch, torch.fft):
        for name in constructors & set(vars(module)):
            patches.set(module, name, _translating(getattr(module, name)))
    for name in _METHODS:
        patches.set(torch.Tensor, name, _translating(getattr(torch.Tensor, name)))
    patches.set(torch.Tensor, "cuda", _cuda)
    patches.set(torch.Tensor, "pin_memory", _pin_memory(torch.Tensor.pin_memory))
    patches.set(DeviceContext, "__init__", _translating(DeviceContext.__init__))  # `with torch.device("cuda"):`
    patches.set(torch.amp.autocast, "__init__", _autocast(torch.amp.autocast.__init__))
    for name in ("is_autocast_enabled", "get_autocast_dtype", "set_autocast_enabled", "set_autocast_dtype"):
        patches.set(torch, name, _for_cuda(getattr(torch, name)))
    patches.set(torch, "compile", refusing("torch.compile"))


def _translating(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if "device" in kwargs:
            kwargs["device"] = for_torch(kwargs["device"])
        return function(*map(for_torch, args), **kwargs)

    return wrapper


def _cuda(
    self: torch.Tensor,
    device: Any = None,  # noqa: ANN401
    non_blocking: bool = False,
    memory_format: torch.memory_format = torch.preserve_format,
) -> torch.Tensor:
    """As torch.Tensor.cuda."""
    device = for_torch("cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device)
    return self.to(device, non_blocking=non_blocking, memory_format=memory_format)


def _pin_memory(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(function)
    def wrapper(self: torch.Tensor, device: object = None) -> torch.Tensor:
        return function(self)

    return wrapper


def _autocast(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def wrapper(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        init(self, "sim" if device_type == "cuda" else device_type, *args, **kwargs)

    return wrapper


def _for_cuda(function: Callable[..., Any]) -> Callable[..., Any]:
    """A question about autocast, which is about CUDA if it names no device."""

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:  # noqa: ANN401
        if not args or not isinstance(args[0], str):
            args = ("cuda", *args)
        return function("sim" if args[0] == "cuda" else args[0], *args[1:])

    return wrapper
