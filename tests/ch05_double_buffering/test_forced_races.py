"""The races of chapters 3 to 5, forced: a sleep in front of one stream's work, and the tokens come out wrong.

On a GPU this is the only proof that an edge is needed: not the race itself is seen, but its effect. The same tests run
on the simulated GPU, where an adversarial policy takes the place of the sleep.
"""

from typing import Any

import pytest

from ch02_continuous_batching import Batch, SamplingParams
from ch03_streams import IOSlot
from ch05_double_buffering import DoubleBufferedEngine
from tests.helpers import tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, STEP_LIMIT, expected
from toolkit.device import DEVICE, accelerator, is_simulated, sleep

pytestmark = pytest.mark.both
SLEEP_MS = 4.0


class SlowEngine(DoubleBufferedEngine):
    """The right engine, with a sleep before each piece of work on the streams named in `slow`."""

    slow: tuple[str, ...] = ("h2d", "compute", "d2h")

    def copy_in(self, batch: Batch, slot: IOSlot) -> None:
        self.dawdle("h2d")
        super().copy_in(batch, slot)

    def run_forward(self, batch: Batch, slot: IOSlot) -> None:
        self.dawdle("compute")
        super().run_forward(batch, slot)

    def copy_out(self, batch: Batch, slot: IOSlot) -> None:
        self.dawdle("d2h")
        super().copy_out(batch, slot)

    def dawdle(self, stream: str) -> None:
        if stream in self.slow:
            sleep(SLEEP_MS)


class ComputeDoesNotWait(SlowEngine):
    slow = ("h2d",)

    def queue(self, batch: Batch, slot: IOSlot) -> None:
        events = self.events[id(slot)]
        with accelerator.stream(self.h2d):
            self.copy_in(batch, slot)
        with accelerator.stream(self.compute):
            self.run_forward(batch, slot)
            events.compute_done.record()
        with accelerator.stream(self.d2h):
            self.d2h.wait_event(events.compute_done)
            self.copy_out(batch, slot)
            events.d2h_done.record()


class CopyOutDoesNotWait(SlowEngine):
    slow = ("compute",)

    def queue(self, batch: Batch, slot: IOSlot) -> None:
        events = self.events[id(slot)]
        with accelerator.stream(self.h2d):
            self.copy_in(batch, slot)
            events.h2d_done.record()
        with accelerator.stream(self.compute):
            self.compute.wait_event(events.h2d_done)
            self.run_forward(batch, slot)
        with accelerator.stream(self.d2h):
            self.copy_out(batch, slot)
            events.d2h_done.record()


class HostDoesNotWait(SlowEngine):
    slow = ("d2h",)

    def wait_for(self, slot: IOSlot) -> None:
        pass


class OneHostBuffer(SlowEngine):
    slow = ("h2d",)

    def free_slot(self, batch: Batch) -> IOSlot:
        slot = super().free_slot(batch)
        slot.host_inputs = self.slots[0].host_inputs
        return slot


class OneDeviceSlot(SlowEngine):
    slow = ("compute",)

    def free_slot(self, batch: Batch) -> IOSlot:
        slot = super().free_slot(batch)
        # The captured forward of slot 1 reads slot 1's tensors, so the copies are led astray, not the forward.
        slot.device_inputs = self.slots[0].device_inputs
        return slot


def tokens_of(engine_class: Any, policy: str) -> list[list[int]]:
    """The tokens of PROMPTS. `policy` is for the simulated GPU."""
    if is_simulated():
        from toolkit import simgpu

        simgpu.reset(policy, on_race="collect")
    model = tiny_model() if is_simulated() else tiny_model().to(DEVICE)
    engine = engine_class(model, num_blocks=80, block_size=4, max_rows=6, token_budget=32)
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
    monkeypatch.setattr(SlowEngine, "slow", slow)
    assert tokens_of(SlowEngine, "lazy") == expected(), f"with the streams {slow} slow, tokens differ from generate's"


@pytest.mark.parametrize(
    "broken", [ComputeDoesNotWait, CopyOutDoesNotWait, HostDoesNotWait, OneHostBuffer, OneDeviceSlot]
)
def test_a_forced_race_gives_wrong_tokens(broken: type[SlowEngine]):
    """With one edge or one buffer missing and the other side slow, the tokens are wrong."""
    policies = ["lazy", *(f"random:{seed}" for seed in range(10))] if is_simulated() else ["cuda"]
    wrong = [policy for policy in policies if tokens_of(broken, policy) != expected()]
    assert wrong, f"{broken.__name__}: the tokens were right in every try, so the race was not forced"
