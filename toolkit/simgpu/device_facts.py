"""What a program asks about the device itself: made-up figures of a current data-centre GPU, by which programs choose
their ways and their sizes. Memory is never short here, however much they take."""

from dataclasses import dataclass
from types import TracebackType

import torch

from toolkit.simgpu import place
from toolkit.simgpu.control import memory_reserved
from toolkit.simgpu.runtime import runtime

TOTAL_MEMORY = 80 * 2**30
CAPABILITY = (9, 0)


@dataclass(frozen=True)
class DeviceProperties:
    """The commonest attributes of what torch.cuda.get_device_properties returns."""

    name: str = "simulated GPU"
    major: int = CAPABILITY[0]
    minor: int = CAPABILITY[1]
    total_memory: int = TOTAL_MEMORY
    multi_processor_count: int = 132
    warp_size: int = 32
    max_threads_per_multi_processor: int = 2048
    shared_memory_per_block: int = 48 * 1024
    shared_memory_per_block_optin: int = 227 * 1024
    L2_cache_size: int = 50 * 2**20
    is_integrated: int = 0


def check_device(device: object) -> None:
    """Is it the device that there is?

    Raises:
        RuntimeError: it is another one.
    """
    if isinstance(device, int):
        device = f"cuda:{device}" if device > 0 else None
    if isinstance(device, (str, torch.device)) and torch.device(place.for_torch(device)).type != "sim":
        raise RuntimeError(f"{device} is not the simulated GPU, which is {place.name()}")


def get_device_properties(device: object = None) -> DeviceProperties:
    check_device(device)
    return DeviceProperties()


def get_device_capability(device: object = None) -> tuple[int, int]:
    check_device(device)
    return CAPABILITY


def mem_get_info(device: object = None) -> tuple[int, int]:
    """Bytes free and in all."""
    check_device(device)
    return max(0, TOTAL_MEMORY - memory_reserved()), TOTAL_MEMORY


def supported(*args: object, **kwargs: object) -> bool:
    """For questions such as is_bf16_supported: as a current GPU."""
    return True


def set_device(device: object) -> None:
    """Accepts the one device."""
    check_device(device)


class OneDevice:
    """`with torch.cuda.device(0):`; there is only that one."""

    def __init__(self, device: object) -> None:
        check_device(device)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


def seed_device(seed: int) -> None:
    """Seed the device's random numbers."""
    runtime.rng.manual_seed(seed)


def get_rng_state(device: object = None) -> object:
    """The state of the device's random numbers, (bytes,) uint8 on the CPU."""
    return runtime.rng.get_state()


def set_rng_state(new_state: object, device: object = None) -> None:
    runtime.rng.set_state(new_state)  # type: ignore[arg-type]
