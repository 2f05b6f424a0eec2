"""The races that a persistent batch brings, each planted once: the simulated GPU names it."""

from typing import Any

import pytest
import torch

from ch02_continuous_batching import SamplingParams
from ch09_persistent_batch import ArrayPacker, PersistentEngine
from ch09_persistent_batch import build as build_module
from ch09_persistent_batch.persistent_buffers import PersistentBuffers
from tests.helpers import random_prompts, swapped, tiny_model
from tests.simulated import needs_simulator
from toolkit.device import write_host

pytestmark = needs_simulator
PROMPTS = random_prompts(5, seed=4, shortest=2, longest=9)


def races_of(policy: str, **parts: Any) -> list[str]:
    """The reports of a run of the engine with these parts in the place of its own."""
    from toolkit import simgpu

    simgpu.reset(policy, on_race="collect")
    engine = PersistentEngine(
        tiny_model(), build=swapped(build_module.build, **parts), num_blocks=60, block_size=4, max_rows=4, max_length=40
    )
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=8))
    for _ in range(60):
        engine.step()
    assert not engine.has_work
    return [str(race) for race in simgpu.races()]


class OneStagingBuffer(PersistentBuffers):
    """Both sets of IO buffers are loaded through one pinned piece of memory."""

    shared: torch.Tensor | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if OneStagingBuffer.shared is None:
            OneStagingBuffer.shared = self.host_buffer
        self.host_buffer = OneStagingBuffer.shared


class PinnedState(OneStagingBuffer):
    """The copy to the device reads the persistent batch itself, which is pinned: nothing is copied at the launch."""

    def load(self, inputs: Any) -> None:
        pass


class EditsPinnedState(ArrayPacker):
    """Keeps the persistent batch in pinned memory, where the copy of the step before may still read."""

    def pack(self, *arguments: Any) -> Any:
        batch = super().pack(*arguments)
        write_host(OneStagingBuffer.shared, self.buffer)
        return batch


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OneStagingBuffer, "shared", None)


@pytest.mark.parametrize("policy", ["eager", "lazy", "threads", "random:1", "random:2"])
def test_the_engine_has_none(policy: str):
    assert races_of(policy) == []


@pytest.mark.parametrize("policy", ["eager", "lazy"])
@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({"PersistentBuffers": PinnedState, "ArrayPacker": EditsPinnedState}, "write_host(OneStagingBuffer.shared"),
        ({"PersistentBuffers": OneStagingBuffer}, "write_host(self.host_buffer"),
    ],
    ids=["an edit overtakes a copy that still reads", "a staging buffer is used again too early"],
)
def test_a_copy_that_still_reads_is_named(parts: dict[str, Any], line: str, policy: str):
    """The host's write on one side, the copy of the step before on the other, and the event that is missing."""
    races = races_of(policy, **parts)
    assert races, "the write overtakes the copy, and no race was found"
    assert any("host" in race and line in race and "H2D copy" in race for race in races), races[0]
