"""Poison: what no batch uses any more is filled with a token that no request has, and no row may ever look it up.

The reserved token is one of the vocabulary: -1 would be a device assert on CUDA, which ends the process.
As soon as a batch is through it fills the ids of its IO buffers, on the host and on the device, inputs and outputs;
from the start it is in all padding; and it takes the place of the placeholder for tokens in flight. A hook on the
embedding looks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch

from ch02_continuous_batching import Batch, Observers, Request, Row
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch07_carry_over import KEEP, CarryPacker
from tests.ch08_full_engine.full_runs import full_engine
from tests.ch08_full_engine.scripted import PROMPTS, Scripted, expected, model
from tests.ch08_full_engine.test_sweeps import EVENTS, LAST_STEP, POLICIES, POOLS
from tests.simulated import needs_simulator
from toolkit.commands.ledger import LedgerError
from toolkit.device import accelerator
from toolkit.forward import Forward

pytestmark = needs_simulator
POISON = 1


class PoisonedExecutor(EventExecutor):
    """Fills a batch's ids with poison as soon as the host has its tokens, each side on the stream that may write it."""

    def __init__(self, pool: BufferPool, forward: Forward, observers: Observers) -> None:
        super().__init__(pool, forward, observers)
        for buffers in pool.buffers:
            buffers.padding["input_ids"].fill_(POISON)
            self.poison(buffers)

    def wait(self, batch: Batch, buffers: IOBuffers) -> list[int]:
        token_ids = super().wait(batch, buffers)
        self.poison(buffers)
        return token_ids

    def poison(self, buffers: IOBuffers) -> None:
        # The host has waited for the batch's last copy: its inputs and its host side are free. Its sampled ids may be
        # read by the next batch, which is in flight: so they are filled on the compute stream, behind it.
        buffers.host_inputs["input_ids"].fill_(POISON)
        buffers.host_ids.fill_(POISON)
        with accelerator.stream(self.h2d):
            buffers.device_inputs["input_ids"].fill_(POISON)
        with accelerator.stream(self.compute):
            buffers.device_ids.fill_(POISON)


poisoned = full_engine(EventExecutor=PoisonedExecutor)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often each forward has looked the poison up, one number per forward. No request here has that token."""
    assert not any(POISON in tokens for tokens in (*PROMPTS, *expected())), "choose another poison"
    # Where these engines look it up: tests of the tooling may have imported the chapters a second time since.
    monkeypatch.setitem(Request.token_ids.__globals__, "PLACEHOLDER", POISON)
    counts: list[int] = []

    def look(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        counts.append(int((arguments[0] == POISON).sum()))

    embedding = model().get_input_embeddings()
    handle = embedding.register_forward_pre_hook(look)
    yield counts
    handle.remove()


@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("num_blocks", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("policy", POLICIES)
def test_poison_reaches_no_row(policy: str, num_blocks: int, asynchronous: bool, looked_up: list[int]):
    """In no forward is the poison looked up, and no token is wrong."""
    Scripted(policy, poisoned, asynchronous=asynchronous, num_blocks=num_blocks).run()
    assert looked_up and not any(looked_up), f"looked up in the forwards {[i for i, n in enumerate(looked_up) if n]}"


@pytest.mark.parametrize("event", ["cancel_0_and_come_again", "preempt_all", "a_commit_raises"])
def test_poison_reaches_no_row_whatever_happens(event: str, looked_up: list[int]):
    """Cancel, preempt and errors in flight, before every step: nor then."""
    for step in range(LAST_STEP):
        Scripted(POLICIES[step % 6], poisoned, num_blocks=POOLS["tight"]).run(step, EVENTS[event])
        assert not any(looked_up), f"{event} before step {step}: the poison was looked up"


class NothingCarried(CarryPacker):
    """A mistake: the carry index says that the host knew every token."""

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        batch = super().pack(step, rows, previous)
        index = torch.full_like(batch.inputs.carry_index, KEEP)
        return replace(batch, inputs=replace(batch.inputs, carry_index=index))


class PoisonTooEarly(PoisonedExecutor):
    """A mistake: the sampled ids are overwritten while the next batch may still have to read them."""

    def launch(self, batch: Batch) -> IOBuffers:
        for buffers in self.pool.buffers:
            with accelerator.stream(self.compute):
                buffers.device_ids.fill_(POISON)
        return super().launch(batch)


BROKEN = {
    "NothingCarried": full_engine(EventExecutor=PoisonedExecutor, CarryPacker=NothingCarried),
    "PoisonTooEarly": full_engine(EventExecutor=PoisonTooEarly),
}


@pytest.mark.parametrize("name", BROKEN)
def test_poison_is_seen_mutant(name: str, looked_up: list[int]):
    """What these tests look for would be seen: an engine that loses carried tokens looks the poison up."""
    from toolkit.simgpu import RaceError

    with pytest.raises((LedgerError, RaceError)):
        Scripted("eager", BROKEN[name]).run()
    assert name == "PoisonTooEarly" or any(looked_up)
