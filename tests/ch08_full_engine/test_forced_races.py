"""The races of chapters 6 to 8, forced: graphs, IO buffers and carry-over, with one order missing and a slow stream.

As in chapter 5, a sleep widens the window on a GPU; on the simulated one the race detector has to see it. What a broken
engine reads is stale, but always a valid token, block or row, so nothing faults.
"""

from collections.abc import Callable
from typing import Any

import pytest

from ch02_continuous_batching import Batch
from ch03_streams import BufferPool, IOBuffers
from ch06_graphs.build import build as build_ch06
from ch07_carry_over.build import build as build_ch07
from ch08_full_engine import FullEngine, Metrics
from tests.ch05_double_buffering.test_forced_races import (
    ComputeDoesNotWait,
    CopyOutDoesNotWait,
    HostDoesNotWait,
    SlowExecutor,
    tokens_of,
)
from tests.ch08_full_engine.full_runs import full_engine
from tests.helpers import swapped
from tests.simulated import expected
from toolkit.device import accelerator, is_simulated, new_stream

pytestmark = pytest.mark.both


class ComputeSlowNowAndThen(SlowExecutor):
    """Compute is slow in even steps alone, if `slow` says so."""

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        if batch.step % 2 == 0:
            self.dawdle("compute of even steps")
        super().run(batch, buffers)


class ThreeInFlight(SlowExecutor):
    """Three batches in flight (see `make`), and IO buffers for two: the third is written where the first has not been
    computed yet."""

    slow = ("compute",)


class TwoComputeStreams(ComputeSlowNowAndThen):
    """Each of the IO buffers computes on a stream of its own: the second batch does not wait for the first's tokens."""

    slow = ("compute of even steps",)

    def __init__(self, pool: BufferPool, *arguments: Any) -> None:
        super().__init__(pool, *arguments)
        self.computes = [self.compute, new_stream("second compute")]

    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        self.compute = self.computes[batch.step % 2]
        super().queue(batch, buffers)


class UntimedMetrics(Metrics):
    """Without the device's times: their events may not have been reached yet in a broken engine."""

    def forward(self, start: Any, end: Any) -> None:
        pass


class StrictEngine(FullEngine):
    """Does not get over errors, which would hide what a race has done."""

    def recover(self, error: Exception) -> None:
        raise error


ENGINES: dict[str, Callable[..., Callable[..., Any]]] = {  # chapter -> its engine, made of other parts
    "ch06": lambda **parts: swapped(build_ch06, **parts),
    "ch07": lambda **parts: swapped(build_ch07, **parts),
    "ch08": lambda **parts: full_engine(StrictEngine, Metrics=UntimedMetrics, **parts),
}


def make(chapter: str, executor: type[SlowExecutor]) -> Callable[..., Any]:
    def build(*arguments: Any, **limits: Any) -> Any:
        engine = ENGINES[chapter](EventExecutor=executor)(*arguments, **limits)
        if executor is ThreeInFlight:
            engine.max_in_flight = 3
        return engine

    return build


@pytest.mark.parametrize("chapter", ["ch07", "ch08"])
@pytest.mark.parametrize("slow", ["h2d", "compute", "d2h", "compute of even steps"])
def test_the_right_engine_stays_right(chapter: str, slow: str):
    """However late a stream is, graphs, IO buffers and carried tokens wait for it."""
    executor = type("LateExecutor", (ComputeSlowNowAndThen,), {"slow": (slow,)})
    assert tokens_of(make(chapter, executor), "lazy") == expected(), f"{chapter} with a slow {slow}: tokens differ"


@pytest.mark.parametrize(
    ("fault", "chapter"),
    [
        (ComputeDoesNotWait, "ch06"),
        (CopyOutDoesNotWait, "ch06"),
        (ThreeInFlight, "ch07"),
        (TwoComputeStreams, "ch07"),
        (ComputeDoesNotWait, "ch08"),
        (CopyOutDoesNotWait, "ch08"),
        (HostDoesNotWait, "ch08"),
        (ThreeInFlight, "ch08"),
        (TwoComputeStreams, "ch08"),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_a_forced_race_gives_wrong_tokens(fault: type[SlowExecutor], chapter: str):
    """With one order missing and the other side slow a GPU's tokens are wrong; the simulated one reports."""
    seen = tokens_of(make(chapter, fault), "lazy")
    if is_simulated():  # whose tokens may be right by luck
        assert accelerator.races(), "no race was reported"
    else:
        assert seen != expected(), "the tokens were right, so the race was not forced"
