"""Registers the device "sim" with torch, once per process.

torch lets one extra device type be defined from outside, under the dispatch key PrivateUse1. Registering it makes it
the process's current accelerator, so it is refused where CUDA is there.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._device import _device_constructors
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from toolkit.simgpu.dispatch import run
from toolkit.simgpu.hostops import pin
from toolkit.simgpu.new_tensors import new_pinned_tensor
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.streams import current_stream, default_stream
from toolkit.simgpu.tensors import Shell

_aten = torch.ops.aten
_MADE_BY_RESIZING = (  # torch would allocate an empty tensor and resize it
    *(_aten.arange.default, _aten.arange.start, _aten.arange.start_step),
    *(_aten.eye.default, _aten.eye.m, _aten.linspace.default, _aten.logspace.default),
    *(_aten.tril_indices.default, _aten.triu_indices.default),
)
_libraries: list[torch.library.Library] = []  # a registration lasts as long as its library object
_FACTORIES = ("zeros", "ones", "full", "arange", "tensor", "rand", "randn", "zeros_like", "ones_like", "full_like")


class _DeviceModule:
    """What torch asks of a device type, as `torch.sim`."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        runtime.rng.manual_seed(seed)


def register() -> None:
    """Make the device "sim" known to torch. Does nothing the second time.

    Raises:
        RuntimeError: this process can use CUDA.
    """
    if _libraries:
        return
    if torch.cuda.is_available():
        raise RuntimeError(
            "the simulated GPU is for machines without CUDA: hide the GPUs with CUDA_VISIBLE_DEVICES= first"
        )
    Shell.run_operation = staticmethod(run)
    _setup_privateuseone_for_python_backend("sim", backend_module=_DeviceModule)
    every_operation = torch.library.Library("_", "IMPL")
    every_operation.fallback(lambda func, *args, **kwargs: run(func, args, kwargs), "PrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    for func in _MADE_BY_RESIZING:
        aten.impl(func, functools.partial(_run_factory, func), "PrivateUse1")
    aten.impl("_copy_from", _copy_from, "PrivateUse1")  # the way that torch.tensor(..., device="sim") takes
    aten.impl("_pin_memory", pin, "CPU")
    _libraries.extend((every_operation, aten))
    torch.autograd._engine_run_backward = _backward(torch.autograd._engine_run_backward)  # type: ignore[attr-defined]
    _accept_pin_memory()
    _refuse_dlpack()


def _run_factory(func: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    return run(func, args, kwargs)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return run(torch.ops.aten.copy_.default, (target, source, non_blocking), {})


def _backward(engine: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(engine)
    def wrapper(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return runtime.passes.run(engine, current_stream(), default_stream(), args, kwargs)

    return wrapper


def _accept_pin_memory() -> None:
    """Make `torch.empty(..., pin_memory=True)` and its like work: in a process without CUDA they raise otherwise.

    The allocator of pinned memory can only be supplied in C++, so these few functions get a wrapper in Python.
    """
    _device_constructors()  # caches the originals, which `with torch.device(...)` looks for
    for name in ("empty", "empty_like"):
        setattr(torch, name, _accepting(getattr(torch, name), _empty_pinned))
    for name in _FACTORIES:
        setattr(torch, name, _accepting(getattr(torch, name), _pinned_copy))


def _refuse_dlpack() -> None:
    """These functions in C ask no tensor, and would give out the address 0."""
    for name in ("_to_dlpack", "_to_dlpack_versioned"):
        setattr(torch._C, name, _refusing(getattr(torch._C, name)))
    torch.utils.dlpack.to_dlpack = torch.to_dlpack = torch._C._to_dlpack  # type: ignore[attr-defined]


def _refusing(to_dlpack: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(to_dlpack)
    def wrapper(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> object:  # noqa: ANN401
        return tensor.__dlpack__() if isinstance(tensor, Shell) else to_dlpack(tensor, *args, **kwargs)

    return wrapper


def _accepting(create: Callable[..., torch.Tensor], create_pinned: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    @functools.wraps(create)
    def wrapper(*args: Any, pin_memory: bool = False, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
        return create_pinned(create, *args, **kwargs) if pin_memory else create(*args, **kwargs)

    return wrapper


def _pinned_copy(create: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
    return pin(create(*args, **kwargs))


def _empty_pinned(create: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401
    if torch.device(kwargs.get("device") or "cpu").type != "cpu":
        raise RuntimeError("cannot pin a tensor on the device: only dense CPU tensors can be pinned")
    shape_of = create(*args, **{**kwargs, "device": "meta"})
    return new_pinned_tensor(tuple(shape_of.shape), shape_of.dtype, shape_of.stride())
