"""The names of torch.cuda, torch.accelerator, torch.Stream and torch.Event, and what stands for them under `as_cuda`.

A name that is not listed is refused when it is called. Names that only describe or only do arithmetic are torch's own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from toolkit.simgpu import control, device_facts, graphs, launches, memory_pools, place, streams
from toolkit.simgpu.patches import Patches, public_functions, refusing
from toolkit.simgpu.runtime import runtime

_NOT_ON_A_GPU = ("CudaError", "DeferredCudaCallError", "cudaStatus", "make_graphed_callables", "check_error")
_CYCLES_PER_MS = 1_500_000  # torch.cuda._sleep counts cycles; a current GPU has some 1.5 GHz


class AcceleratorEvent(streams.Event):
    """As torch.Event, which takes a device first."""

    def __init__(
        self, device: object = None, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False
    ) -> None:
        device_facts.check_device(device)
        super().__init__(enable_timing, blocking, interprocess)


def _nothing(*args: object, **kwargs: object) -> None:
    """For calls that have no effect on results here, such as setting the GPU up."""


@contextmanager
def _no_range(*args: object, **kwargs: object) -> Iterator[None]:
    """For torch.cuda.nvtx.range, which is a context and a decorator."""
    yield


def _constant(value: Any) -> Callable[..., Any]:  # noqa: ANN401 (any constant)
    return lambda *args, **kwargs: value


def _graph_pool() -> Any:  # noqa: ANN401 (as torch.cuda.graph_pool_handle)
    return graphs.graph_pool_handle()


_COMMON: dict[str, Any] = {
    **{name: getattr(streams, name) for name in ("current_stream", "set_stream", "synchronize")},
    **{name: getattr(control, name) for name in ("is_available", "device_count", "empty_cache")},
    **{name: getattr(control, name) for name in ("memory_allocated", "max_memory_allocated", "memory_reserved")},
    "max_memory_reserved": control.memory_reserved,
    "reset_peak_memory_stats": control.reset_peak_memory_stats,
    "get_device_capability": device_facts.get_device_capability,
}
CUDA: dict[str, Any] = {
    **_COMMON,
    **{name: getattr(streams, name) for name in ("Stream", "Event", "StreamContext", "stream", "default_stream")},
    **{name: getattr(graphs, name) for name in ("CUDAGraph", "graph", "is_current_stream_capturing")},
    "graph_pool_handle": _graph_pool,
    **{name: getattr(control, name) for name in ("current_device", "get_device_name", "set_sync_debug_mode")},
    **{name: getattr(device_facts, name) for name in ("get_device_properties", "mem_get_info", "set_device")},
    **{name: getattr(device_facts, name) for name in ("get_rng_state", "set_rng_state")},
    "MemPool": memory_pools.MemPool,
    "use_mem_pool": memory_pools.use_mem_pool,
    "device": device_facts.OneDevice,
    "device_of": device_facts.OneDevice,
    "is_bf16_supported": device_facts.supported,
    "is_tf32_supported": device_facts.supported,
    "get_sync_debug_mode": lambda: 2 if runtime.sync_debug_mode == "error" else 0,
    "get_arch_list": _constant(["sm_90"]),
    "manual_seed": device_facts.seed_device,
    "manual_seed_all": device_facts.seed_device,
    "initial_seed": lambda: runtime.rng.initial_seed(),
    "get_rng_state_all": lambda: [device_facts.get_rng_state()],
    "set_rng_state_all": lambda states: device_facts.set_rng_state(states[0]),
    "is_initialized": control.is_available,
    "init": _nothing,
    "_lazy_init": _nothing,
    "_lazy_call": lambda call, **kwargs: call(),
    "_is_in_bad_fork": _constant(False),
    "_sleep": lambda cycles: launches.sleep(cycles / _CYCLES_PER_MS),
}
ACCELERATOR: dict[str, Any] = {
    **_COMMON,
    "current_accelerator": lambda check_available=False: torch.device(place.type_name()),
    "current_device_index": control.current_device,
    "current_device_idx": control.current_device,
    "set_device_index": device_facts.set_device,
    "set_device_idx": device_facts.set_device,
    "device_index": device_facts.OneDevice,
    "get_memory_info": device_facts.mem_get_info,
}
_MODULES = (torch.cuda, torch.cuda.streams, torch.cuda.graphs, torch.cuda.memory, torch.cuda.random)


def rename(patches: Patches) -> None:
    """Put the simulated GPU behind torch's names."""
    for module in _MODULES:
        _replace(patches, module, CUDA)
    _replace(patches, torch.accelerator, ACCELERATOR)
    for name in ("_lazy_init", "_lazy_call", "_is_in_bad_fork", "_sleep", "is_bf16_supported"):
        patches.set(torch.cuda, name, CUDA[name])
    for name in public_functions(torch.cuda.nvtx):  # names for a profiler
        patches.set(torch.cuda.nvtx, name, _nothing)
    patches.set(torch.cuda.nvtx, "range", _no_range)
    patches.set(torch, "get_device_module", _device_module(torch.get_device_module))
    patches.set(torch, "Stream", streams.Stream)
    patches.set(torch, "Event", AcceleratorEvent)


def _device_module(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda device=None: function("cuda" if device is None else device)


def _replace(patches: Patches, module: Any, names: dict[str, Any]) -> None:  # noqa: ANN401 (a module of torch)
    for name in public_functions(module):
        if name in names:
            patches.set(module, name, names[name])
        elif name not in _NOT_ON_A_GPU and not name.endswith(("Storage", "Tensor")):
            patches.set(module, name, refusing(f"{module.__name__}.{name}"))
