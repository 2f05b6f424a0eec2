"""What the small programs of repairs.py run on: four streams, and a few numbers with a place at every stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from toolkit.device import DEVICE, accelerator, name_tensors, new_stream


@dataclass(frozen=True)
class Streams:
    """The engine's three streams, and a second one for kernels."""

    h2d: Any  # of either accelerator, which have no common class
    compute: Any
    d2h: Any
    side: Any

    @classmethod
    def new(cls) -> "Streams":
        return cls(new_stream("h2d"), new_stream("compute"), new_stream("d2h"), new_stream("side"))


class Numbers:
    """Some numbers on their way to the device and back. All tensors are (n,) float32.

    Attributes:
        host_in: pinned; the numbers.
        x, y, z: on the device; -1 everywhere, unless `loaded`: then x holds the numbers and y their doubles.
        host_out: pinned; -1 everywhere.
    """

    def __init__(self, values: Sequence[float], *, loaded: bool = False) -> None:
        host: Any = {"dtype": torch.float32, "device": "cpu", "pin_memory": True}
        self.host_in = torch.tensor(values, **host)
        self.host_out = torch.full((len(values),), -1.0, **host)
        self.x, self.y, self.z = (
            torch.full((len(values),), -1.0, dtype=torch.float32, device=DEVICE) for _ in range(3)
        )
        if loaded:
            self.x.copy_(self.host_in)
            torch.mul(self.x, 2, out=self.y)
        name_tensors({name: getattr(self, name) for name in ("host_in", "x", "y", "z", "host_out")}, of="the numbers")


@dataclass(frozen=True)
class Seen:
    """What a program did on the simulated GPU.

    Attributes:
        result: what it returned; else the values of the tensor that it leaves its result in.
        races: the reports of the race detector.
        waits: the calls in which the host waited.
        lanes: (operation, stream) of everything that the device did, in the order of launching.
    """

    result: list[float]
    races: list[str]
    waits: list[str]
    lanes: list[tuple[str, str]]


def try_out(
    program: Callable[[Streams, Numbers], list[float] | None], result: str, policy: str, *, loaded: bool
) -> Seen:
    """Run a program once on a fresh simulated GPU.

    Args:
        result: the attribute of Numbers in which the result is when all is done.
        policy: see toolkit.simgpu.reset.
        loaded: see Numbers.
    """
    accelerator.reset(policy, on_race="collect")
    streams, numbers = Streams.new(), Numbers([1.0, 2.0, 3.0], loaded=loaded)
    accelerator.synchronize()
    before = len(accelerator.synchronisations()), len(accelerator.spans())
    returned = program(streams, numbers)
    races = [str(race) for race in accelerator.races()]
    waits = [f"{wait.what} at {wait.site}" for wait in accelerator.synchronisations()[before[0] :]]
    lanes = [(span.name, span.lane) for span in accelerator.spans()[before[1] :] if span.lane != "host"]
    accelerator.synchronize()
    return Seen(returned or getattr(numbers, result).tolist(), races, waits, lanes)
