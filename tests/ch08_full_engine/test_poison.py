"""Poison: what no batch uses any more is filled with a token that nobody has, and no row may ever look it up.

The reserved token is one of the vocabulary: -1 would be a device assert on CUDA, which ends the process.
After each commit it fills the slot's ids, on the host and on the device, inputs as well as outputs; from the start it
stands in all padding; and it takes the place of the placeholder for tokens in flight. A hook on the embedding looks.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from ch02_continuous_batching import Batch, Request
from ch07_carry_over import KEEP
from ch08_full_engine import FullEngine
from tests.ch08_full_engine.scripted import PROMPTS, Scripted, expected
from tests.ch08_full_engine.test_sweeps import EVENTS, LAST_STEP, POLICIES, POOLS
from tests.simulated import needs_simulator
from toolkit.commands.ledger import LedgerError
from toolkit.device import accelerator

pytestmark = needs_simulator
POISON = 1


class PoisonedEngine(FullEngine):
    """Fills a slot's ids with poison as soon as its batch is committed, each side on the stream that may write it."""

    def set_up_device(self, model: Any) -> None:
        super().set_up_device(model)
        for slot in self.slots:
            slot.padding["input_ids"].fill_(POISON)
            self.poison(slot)

    def commit(self, batch: Batch, slot: Any) -> Any:
        outputs = super().commit(batch, slot)
        self.poison(slot)
        return outputs

    def poison(self, slot: Any) -> None:
        # The host has waited for the slot's last copy: its inputs and its host side are free. Its sampled ids may be
        # read by the next batch, which is in flight: so they are filled on the compute stream, behind it.
        slot.host_inputs["input_ids"].fill_(POISON)
        slot.host_ids.fill_(POISON)
        with accelerator.stream(self.h2d):
            slot.device_inputs["input_ids"].fill_(POISON)
        with accelerator.stream(self.compute):
            slot.device_ids.fill_(POISON)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often each forward has looked the poison up, one number per forward. Nobody in these runs has that token."""
    assert not any(POISON in tokens for tokens in (*PROMPTS, *expected())), "choose another poison"
    # Where these engines look it up: tests of the tooling may have imported the chapters a second time since.
    monkeypatch.setitem(Request.token_ids.__globals__, "PLACEHOLDER", POISON)
    counts: list[int] = []

    def look(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        counts.append(int((arguments[0] == POISON).sum()))

    embedding = Scripted().engine.model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(look)
    yield counts
    handle.remove()


@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("num_blocks", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("policy", POLICIES)
def test_poison_reaches_no_row(policy: str, num_blocks: int, asynchronous: bool, looked_up: list[int]):
    """In no forward is the poison looked up, and no token is wrong."""
    Scripted(policy, PoisonedEngine, asynchronous=asynchronous, num_blocks=num_blocks).run()
    assert looked_up and not any(looked_up), f"looked up in the forwards {[i for i, n in enumerate(looked_up) if n]}"


@pytest.mark.parametrize("event", ["cancel_0_and_come_again", "preempt_everybody", "a_commit_raises"])
def test_poison_reaches_no_row_whatever_happens(event: str, looked_up: list[int]):
    """Cancel, preempt and errors in flight, before every step: nor then."""
    for step in range(LAST_STEP):
        Scripted(POLICIES[step % 6], PoisonedEngine, num_blocks=POOLS["tight"]).run(step, EVENTS[event])
        assert not any(looked_up), f"{event} before step {step}: the poison was looked up"


class NothingCarried(PoisonedEngine):
    """A mistake: the carry index says that the host knew every token."""

    def make_batch(self, rows: Any) -> Batch:
        batch = super().make_batch(rows)
        index = torch.full_like(batch.inputs.carry_index, KEEP)
        return replace(batch, inputs=replace(batch.inputs, carry_index=index))


class PoisonTooEarly(PoisonedEngine):
    """A mistake: the sampled ids are overwritten while the next batch may still have to read them."""

    def prepare(self) -> Batch | None:
        batch = super().prepare()
        for _, slot in self.in_flight:
            with accelerator.stream(self.compute):
                slot.device_ids.fill_(POISON)
        return batch


@pytest.mark.parametrize("broken", [NothingCarried, PoisonTooEarly], ids=lambda each: each.__name__)
def test_poison_is_seen_mutant(broken: type, looked_up: list[int]):
    """What these tests look for would be seen: an engine that loses carried tokens looks the poison up."""
    from toolkit.simgpu import RaceError

    with pytest.raises((LedgerError, RaceError)):
        Scripted("eager", broken).run()
    assert broken is PoisonTooEarly or any(looked_up)
