"""What a test or a lesson asks of the simulator itself: start afresh, choose a policy, look at what happened."""

from collections.abc import Mapping

import torch

from toolkit.simgpu.clock import Costs, Span
from toolkit.simgpu.edges import Edge
from toolkit.simgpu.errors import Race
from toolkit.simgpu.reports import describe
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.streams import Stream
from toolkit.simgpu.synchronisations import Synchronisation
from toolkit.simgpu.tensors import Shell


def reset(policy: str = "eager", *, on_race: str = "raise", costs: Costs | None = None) -> None:
    """Begin a new run: empty streams, virtual clock at 0, no races, no spans. Tensors keep their values.

    Args:
        policy: "eager", "lazy", "threads" or "random:SEED"; see policies.py.
        on_race: "raise" a RaceError where the second operation is issued, or "collect" for `races()`.
        costs: prices of the virtual clock.
    """
    runtime.reset(policy, on_race, costs or Costs())


def races() -> list[Race]:
    """The races found since `reset`, in the order found (with on_race="raise": at most those of the one raised)."""
    return list(runtime.detector.races)


def describe_races() -> str:
    """All races since `reset` in words, each once, and those of one missing edge together; "" if there are none."""
    unnamed = {each.name: each.made_at for each in runtime.streams if isinstance(each, Stream) and each.made_at}
    return describe(races(), unnamed)


def synchronisations() -> list[Synchronisation]:
    """Every time since `reset` that the host waited for the device, hidden ones included."""
    return list(runtime.synchronisations)


def name_tensors(tensors: Mapping[str, torch.Tensor], of: str = "") -> None:
    """Name tensors for reports, which then say "input_ids of the buffers of batch 3" and not "(96,) int64 buffer".

    A name holds for the tensor's bytes, so for its views too, until the tensor is freed. Called again, it replaces what
    was said before.

    Args:
        tensors: device and pinned tensors by name; others have no reports and are passed over.
        of: what they belong to now, such as "the buffers of batch 3". One for all that shares the memory.
    """
    for name, tensor in tensors.items():
        if isinstance(tensor, Shell):
            footprint = tensor.footprint()
            footprint.block.names[footprint.region.key] = footprint.region, name
            footprint.block.owner = of
            runtime.buffer_sets.join(footprint.block, of)


def forget() -> None:
    """Drop the spans, edges and synchronisations seen so far, which a long run would fill the memory with."""
    runtime.clock.spans.clear()
    runtime.edges.clear()
    runtime.synchronisations.clear()


def spans() -> list[Span]:
    """What the virtual clock has seen since `reset`: lanes are stream names and "host"; in ms."""
    return list(runtime.clock.spans)


def edges() -> list[Edge]:
    """Every wait for an event or a stream since `reset`, with what it waited for."""
    return list(runtime.edges)


def now_ms() -> float:
    """The host's time on the virtual clock."""
    return runtime.clock.now


def host_work(ms: float, name: str = "host work") -> None:
    """Declare that the host has been busy for `ms`: on the virtual clock only, it takes no real time."""
    runtime.clock.host_work(ms, name)


def set_sync_debug_mode(mode: str | int) -> None:
    """ "default", or "error": a hidden synchronisation raises. (CUDA's mode "warn" is not modelled.)"""
    if mode not in ("default", "error", 0, 2):
        raise NotImplementedError(f"simgpu: sync debug mode {mode!r}")
    runtime.sync_debug_mode = "error" if mode in ("error", 2) else "default"


def memory_allocated(device: object = None) -> int:
    """Bytes held by live tensors on the device, each rounded up to 512."""
    return runtime.memory.allocated


def max_memory_allocated(device: object = None) -> int:
    """The most bytes held at any time since `reset` or `reset_peak_memory_stats`."""
    return runtime.memory.peak


def memory_reserved(device: object = None) -> int:
    """Bytes held by live tensors and by the allocator for reuse."""
    return runtime.memory.allocated + runtime.memory.cached


def reset_peak_memory_stats(device: object = None) -> None:
    runtime.memory.peak = runtime.memory.allocated


def empty_cache() -> None:
    """Give free blocks back; those of graphs' pools stay."""
    runtime.memory.default_pool.free.clear()


def manual_seed_all(seed: int) -> None:
    """Seed the device's random numbers (`torch.manual_seed` does it too)."""
    runtime.rng.manual_seed(seed)


def is_available() -> bool:
    return True


def device_count() -> int:
    return 1


def current_device() -> int:
    return 0


def get_device_name(device: object = None) -> str:
    return "simulated GPU"
