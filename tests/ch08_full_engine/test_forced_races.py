"""The races of chapters 6 to 8, forced: graphs, slots and carry-over, with one order missing and a stream that is slow.

As in chapter 5, a sleep widens the window on a GPU; on the simulated one the race detector has to see it. What a broken
engine reads is stale, but always a valid token, block or row, so nothing faults.
"""

from typing import Any

import pytest

from ch02_continuous_batching import Batch
from ch03_streams import IOSlot
from ch06_graphs import GraphEngine
from ch07_carry_over import AsyncEngine
from ch08_full_engine import FullEngine
from tests.ch05_double_buffering.test_forced_races import ComputeDoesNotWait, CopyOutDoesNotWait, tokens_of
from tests.simulated import expected
from toolkit.device import accelerator, is_simulated, new_stream, sleep

pytestmark = pytest.mark.both
SLEEP_MS = 4.0


class Slow:
    """Before an engine's class: a sleep before each piece of work on the streams named in `slow`."""

    slow: tuple[str, ...] = ()

    def copy_in(self, batch: Batch, slot: IOSlot) -> None:
        self.dawdle("h2d")
        super().copy_in(batch, slot)

    def run_forward(self, batch: Batch, slot: IOSlot) -> None:
        if batch.step % 2 == 0:
            self.dawdle("compute of even steps")
        self.dawdle("compute")
        super().run_forward(batch, slot)

    def copy_out(self, batch: Batch, slot: IOSlot) -> None:
        self.dawdle("d2h")
        super().copy_out(batch, slot)

    def wait_for(self, slot: IOSlot) -> None:
        """Without the metrics: the events that they read may not have been reached in a broken engine."""
        self.events[id(slot)].d2h_done.synchronize()
        if hasattr(self, "forwards"):
            self.forwards.popleft()

    def recover(self, error: Exception) -> None:
        raise error

    def dawdle(self, stream: str) -> None:
        if stream in self.slow:
            sleep(SLEEP_MS)


class InputsLate(Slow):
    slow = ("h2d",)
    queue = ComputeDoesNotWait.queue


class IdsLate(Slow):
    slow = ("compute",)
    queue = CopyOutDoesNotWait.queue


class HostTooEarly(Slow):
    """Reads the ids without waiting."""

    slow = ("d2h",)

    def wait_for(self, slot: IOSlot) -> None:
        if hasattr(self, "forwards"):
            self.forwards.popleft()


class ThreeInFlight(Slow):
    """Three batches in flight, and two slots: the third is written where the first has not been computed yet."""

    slow = ("compute",)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.max_in_flight = 3


class TwoComputeStreams(Slow):
    """Each slot computes on a stream of its own: the second batch does not wait for the tokens of the first."""

    slow = ("compute of even steps",)

    def queue(self, batch: Batch, slot: IOSlot) -> None:
        if not hasattr(self, "computes"):
            self.computes = [self.compute, new_stream("second compute")]
        self.compute = self.computes[batch.step % 2]
        super().queue(batch, slot)


def make(fault: type, engine_class: type) -> type:
    return type(f"{fault.__name__}{engine_class.__name__}", (fault, engine_class), {})


@pytest.mark.parametrize("engine_class", [AsyncEngine, FullEngine], ids=lambda each: each.__name__)
@pytest.mark.parametrize("slow", ["h2d", "compute", "d2h", "compute of even steps"])
def test_the_right_engine_stays_right(engine_class: type, slow: str):
    """However late a stream is, graphs, slots and carried tokens wait for it."""
    engine = type("SlowEngine", (Slow, engine_class), {"slow": (slow,)})
    assert tokens_of(engine, "lazy") == expected(), f"{engine_class.__name__} with a slow {slow}: tokens differ"


@pytest.mark.parametrize(
    ("fault", "engine_class"),
    [
        (InputsLate, GraphEngine),
        (IdsLate, GraphEngine),
        (ThreeInFlight, AsyncEngine),
        (TwoComputeStreams, AsyncEngine),
        (InputsLate, FullEngine),
        (IdsLate, FullEngine),
        (HostTooEarly, FullEngine),
        (ThreeInFlight, FullEngine),
        (TwoComputeStreams, FullEngine),
    ],
    ids=lambda each: each.__name__,
)
def test_a_forced_race_gives_wrong_tokens(fault: type, engine_class: type):
    """With one order missing and the other side slow a GPU's tokens are wrong; the simulated one reports."""
    seen = tokens_of(make(fault, engine_class), "lazy")
    if is_simulated():  # whose tokens may be right by luck
        assert accelerator.races(), "no race was reported"
    else:
        assert seen != expected(), "the tokens were right, so the race was not forced"
