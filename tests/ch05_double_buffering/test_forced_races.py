"""The races of chapters 3 to 5, forced: a sleep in front of one stream's work, and the tokens come out wrong.

On a GPU this is the only proof that an edge is needed: not the race itself is seen, but its effect. The same tests run
on the simulated GPU, where an adversarial policy takes the place of the sleep.
"""

from typing import Any

import pytest

from ch02_continuous_batching import Batch, SamplingParams
from ch03_streams import IOBuffers
from ch04_events import EventExecutor
from ch05_double_buffering import BufferRing
from ch05_double_buffering.build import build
from tests.helpers import swapped, tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, STEP_LIMIT, expected
from toolkit.device import DEVICE, accelerator, is_simulated, sleep

pytestmark = pytest.mark.both
SLEEP_MS = 4.0


class SlowExecutor(EventExecutor):
    """The right executor, with a sleep before each piece of work on the streams named in `slow`."""

    slow: tuple[str, ...] = ("h2d", "compute", "d2h")

    def copy_in(self, batch: Batch, buffers: IOBuffers) -> None:
        self.dawdle("h2d")
        super().copy_in(batch, buffers)

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        self.dawdle("compute")
        super().run(batch, buffers)

    def copy_out(self, batch: Batch, buffers: IOBuffers) -> None:
        self.dawdle("d2h")
        super().copy_out(batch, buffers)

    def dawdle(self, stream: str) -> None:
        if stream in self.slow:
            sleep(SLEEP_MS)


class InputsLate(SlowExecutor):
    slow = ("h2d",)


class IdsLate(SlowExecutor):
    slow = ("compute",)


class ComputeDoesNotWait(InputsLate):
    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        with accelerator.stream(self.h2d):
            self.copy_in(batch, buffers)
        with accelerator.stream(self.compute):
            self.run(batch, buffers)
            buffers.compute_done.record()
        with accelerator.stream(self.d2h):
            self.d2h.wait_event(buffers.compute_done)
            self.copy_out(batch, buffers)
            buffers.d2h_done.record()


class CopyOutDoesNotWait(IdsLate):
    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        with accelerator.stream(self.h2d):
            self.copy_in(batch, buffers)
            buffers.h2d_done.record()
        with accelerator.stream(self.compute):
            self.compute.wait_event(buffers.h2d_done)
            self.run(batch, buffers)
        with accelerator.stream(self.d2h):
            self.copy_out(batch, buffers)
            buffers.d2h_done.record()


class HostDoesNotWait(SlowExecutor):
    slow = ("d2h",)

    def wait(self, batch: Batch, buffers: IOBuffers) -> list[int]:
        return buffers.read_ids(len(batch.sampling_rows))


class OneHostBuffer(BufferRing):
    def buffers_for(self, batch: Batch) -> IOBuffers:
        buffers = super().buffers_for(batch)
        buffers.host_inputs = self.buffers[0].host_inputs
        return buffers


class OneDeviceSlot(BufferRing):
    def buffers_for(self, batch: Batch) -> IOBuffers:
        buffers = super().buffers_for(batch)
        # The captured forward of buffers[1] reads the tensors of buffers[1], so the copies are led astray, not the
        # forward.
        buffers.device_inputs = self.buffers[0].device_inputs
        return buffers


BROKEN = {
    "ComputeDoesNotWait": {"EventExecutor": ComputeDoesNotWait},
    "CopyOutDoesNotWait": {"EventExecutor": CopyOutDoesNotWait},
    "HostDoesNotWait": {"EventExecutor": HostDoesNotWait},
    "OneHostBuffer": {"EventExecutor": InputsLate, "BufferRing": OneHostBuffer},
    "OneDeviceSlot": {"EventExecutor": IdsLate, "BufferRing": OneDeviceSlot},
}


def tokens_of(build: Any, policy: str) -> list[list[int]]:
    """The tokens that an engine made by `build` gives PROMPTS. `policy` is for the simulated GPU."""
    if is_simulated():
        from toolkit import simgpu

        simgpu.reset(policy, on_race="collect")
    model = tiny_model() if is_simulated() else tiny_model().to(DEVICE)
    engine = build(model, num_blocks=80, block_size=4, max_rows=6, token_budget=32)
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=MAX_TOKENS))
    outputs: list[list[int]] = [[] for _ in PROMPTS]
    for _ in range(STEP_LIMIT):
        for output in engine.step():
            outputs[int(output.request_id)] += output.new_token_ids
        if not engine.has_work:
            break
    accelerator.synchronize()
    return outputs


@pytest.mark.parametrize("slow", [("h2d",), ("compute",), ("d2h",), ("h2d", "compute", "d2h")], ids="+".join)
def test_the_right_engine_stays_right(slow: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    """However late a stream is, the events hold the others up: the tokens are right."""
    monkeypatch.setattr(SlowExecutor, "slow", slow)
    slow_engine = swapped(build, EventExecutor=SlowExecutor)
    assert tokens_of(slow_engine, "lazy") == expected(), f"with the streams {slow} slow, tokens differ from generate's"


@pytest.mark.parametrize("broken", BROKEN)
def test_a_forced_race_gives_wrong_tokens(broken: str):
    """With one edge or one buffer missing and the other side slow, the tokens are wrong."""
    broken_engine = swapped(build, **BROKEN[broken])
    policies = ["lazy", *(f"random:{seed}" for seed in range(10))] if is_simulated() else ["cuda"]
    wrong = [policy for policy in policies if tokens_of(broken_engine, policy) != expected()]
    assert wrong, f"{broken}: the tokens were right in every try, so the race was not forced"
