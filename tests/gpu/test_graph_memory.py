"""Graphs on a GPU: two sets of IO buffers in the memory of one, and why two graphs of one pool must not run at once."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ch03_streams import IOBuffers
from ch04_events import EventExecutor
from ch06_graphs import GraphForward
from ch07_carry_over import link
from ch08_full_engine.build import build
from figures.ch06.record import held
from tests.gpu.bfloat16 import engine_model
from tests.helpers import swapped
from toolkit.device import sleep
from toolkit.forward import Sizes, Tensors

pytestmark = pytest.mark.gpu


class NotingExecutor(EventExecutor):
    """Notes what was held before its graphs were made."""

    def __init__(self, *parts: Any) -> None:
        self.before = held()
        super().__init__(*parts)


def alone(first: IOBuffers, second: IOBuffers) -> list[IOBuffers]:
    """One of them; the batch before has left its ids in the same tensor."""
    first.forward_inputs["previous_ids"] = first.device_ids
    return [first]


def graphs_hold(link: Callable[..., list[IOBuffers]]) -> tuple[int, int]:
    """Bytes by the allocator's account, and of the device at all, that the graphs of a 1b engine take.

    Args:
        link: makes of two IO buffers the one or two that the engine has.
    """
    parts = swapped(build, EventExecutor=NotingExecutor, link=link)(
        engine_model("1b"), num_blocks=128, block_size=16, max_rows=32, token_budget=512, max_length=1024
    )
    (reserved, in_use), (reserved_before, in_use_before) = held(), parts.executor.before
    del parts
    held()
    return reserved - reserved_before, in_use - in_use_before


def test_two_sets_of_buffers_take_the_memory_of_one():
    """With one pool the second set's graphs use the first one's memory: at most 1.05 times as much is held."""
    graphs_hold(alone)  # kernels and workspaces are there before it counts
    one, two = graphs_hold(alone), graphs_hold(link)
    ratios = two[0] / one[0], two[1] / one[1]
    warnings.warn(
        f"graphs of one set: {one[0] / 1e6:.1f} MB by the allocator, {one[1] / 1e6:.1f} MB by mem_get_info; of two: "
        f"{ratios[0]:.3f} and {ratios[1]:.3f} times as much",
        stacklevel=1,
    )
    assert ratios[0] <= 1.05, f"by the allocator's account two sets hold {ratios[0]:.3f} times the memory of one"


# --- two graphs of one pool at once ---

FULL = Sizes(1, 1, 1, width=1, num_decode_rows=1, max_query_length=1, greedy=True)
LARGE = 1_000_000


class SlowForward:
    """A forward that leaves a temporary in the pool, dawdles, and then reads it. Two sets of buffers with the values 3
    and 5."""

    def __init__(self, pools: int) -> None:
        sleep(0.1)  # measures the clock, which a capture could not do
        self.inputs = [{"x": torch.full((LARGE,), value, device="cuda")} for value in (3, 5)]
        self.outputs = [torch.zeros(1, dtype=torch.int64, device="cuda") for _ in range(2)]
        storage = torch.zeros(1, device="cuda")
        forwards = [GraphForward(self.forward, storage) for _ in range(pools)]
        self.forwards = [forwards[0], forwards[-1]]
        for forward, inputs, output in zip(self.forwards, self.inputs, self.outputs, strict=True):
            forward.capture_all(inputs, output, FULL)
        torch.cuda.synchronize()

    def forward(self, inputs: Tensors, storage: Tensor, sizes: Sizes) -> Tensor:
        temporary = inputs["x"] * 1
        sleep(20.0)
        return temporary[-1:].clone()

    def run(self, streams: list[torch.cuda.Stream]) -> list[int]:
        """Launch both sets' graphs, each on its stream, one right after the other."""
        for output in self.outputs:
            output.zero_()
        torch.cuda.synchronize()
        for forward, inputs, output, stream in zip(self.forwards, self.inputs, self.outputs, streams, strict=True):
            with torch.cuda.stream(stream):
                forward.launch(inputs, output, FULL)
        torch.cuda.synchronize()
        return [output.item() for output in self.outputs]


def test_graphs_of_one_pool_must_not_run_at_once():
    """On one stream both are right. On two, the second overwrites the first's temporary; pools of their own help."""
    one, two = torch.cuda.Stream(), torch.cuda.Stream()
    shared, apart = SlowForward(pools=1), SlowForward(pools=2)
    assert shared.run([one, one]) == [3, 5], "one after the other, two graphs may share a pool"
    assert shared.run([one, two])[0] != 3, "the race was not forced: the first graph's temporary should be overwritten"
    assert apart.run([one, two]) == [3, 5], "with a pool each, two graphs may run at once"
