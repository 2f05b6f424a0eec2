"""Weights that are changed in place: `forget_prefixes`, after which no request shares what the old ones computed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch02_continuous_batching import Request, Row
from ch08_full_engine import PrefixBlockManager
from tests.ch08_full_engine.full_runs import Watch, engine_on, params
from tests.ch08_full_engine.test_prefix_blocks import PROMPTS, SIZE, Device, shared, written
from tests.helpers import random_prompts, reference_outputs, tiny_model
from tests.simulated import needs_simulator

pytestmark = needs_simulator
PROMPT, OTHER_PROMPT = random_prompts(2, seed=5, shortest=30, longest=40)
NEW = tiny_model(seed=1)
RIGHT = reference_outputs(NEW, [PROMPT, OTHER_PROMPT], 12)


def change_weights(model) -> None:
    """As a training step or load_state_dict does it: other numbers at the same addresses."""
    model.load_state_dict(NEW.state_dict())


def answer(engine, prompt: list[int]) -> list[int]:
    (output,) = engine.generate([prompt], params(max_tokens=12))
    return list(output.output_ids)


@pytest.mark.parametrize("asynchronous", [True, False])
def test_after_forgetting_the_answers_are_the_new_weights(asynchronous: bool):
    """Without the call, the blocks of the old weights are shared, and the answer is neither model's."""
    for forgets in (False, True):
        model = tiny_model()
        engine = engine_on(model=model, asynchronous=asynchronous)
        old = answer(engine, PROMPT)
        change_weights(model)
        if forgets:
            engine.forget_prefixes()
        assert (answer(engine, PROMPT) == RIGHT[0]) is forgets
        assert old != RIGHT[0], "the two models answer alike, so nothing is tested"
        if forgets:
            shared_before = engine.metrics.shared_tokens
            assert answer(engine, PROMPT) == RIGHT[0]
            assert engine.metrics.shared_tokens > shared_before, "what the new weights computed is shared again"


@pytest.mark.parametrize("steps", range(1, 8))
def test_a_request_that_runs_meanwhile_leaves_nothing_for_others(steps: int):
    """The weights change with two batches in flight, or half a prompt done: what follows is right all the same."""
    model = tiny_model()
    engine = engine_on(model=model)
    watch = Watch(engine)
    watch.add("0", PROMPT)
    watch.run(steps)
    change_weights(model)
    engine.forget_prefixes()
    watch.add("1", OTHER_PROMPT, max_tokens=12)
    watch.add("2", PROMPT, max_tokens=12)
    watch.run()
    watch.add("3", PROMPT, max_tokens=12)
    watch.run()
    assert watch.tokens["1"] == RIGHT[1]
    assert watch.tokens["2"] == watch.tokens["3"] == RIGHT[0]
    assert len(watch.tokens["0"]) > 0 and watch.ended["0"].error == ""


def test_without_prefix_sharing_there_is_nothing_to_forget():
    """The call is allowed, and changes nothing."""
    model = tiny_model()
    engine = engine_on(model=model, prefix_sharing=False)
    answer(engine, PROMPT)
    change_weights(model)
    engine.forget_prefixes()
    assert answer(engine, PROMPT) == RIGHT[0]


def test_blocks_without_an_owner_become_ordinary_ones():
    """All are free, none has a name, and a request with the same beginning computes everything."""
    blocks = PrefixBlockManager(8, SIZE)
    blocks.free(written(blocks, [*range(9)]))
    blocks.forget()
    assert not blocks.name_of and not blocks.block_of and not blocks.reusable
    assert sorted(blocks.free_blocks) == [*range(8)]
    assert shared(blocks, [*range(9)]).block_table == []


def test_a_block_with_an_owner_stays_its_own_and_gets_no_name():
    """Nor does a block that the same request fills later, since its keys follow from the old ones."""
    blocks = PrefixBlockManager(3, SIZE)
    owner = written(blocks, [*range(7)])
    table = list(owner.block_table)
    blocks.forget()
    assert owner.block_table == table and blocks.num_free_blocks == 1
    owner.output_ids += [7, 8, 9, 10, 11]
    blocks.allocate(owner, 12)
    blocks.mark_written(Row(owner, 0, 7, 5, True))
    assert not blocks.name_of, "a block was named that holds, or follows from, what the old weights computed"
    blocks.free(owner)
    again = written(blocks, [*range(12)])
    assert len(blocks.name_of) == 3, "the same blocks, written again by a new request, get their names"
    blocks.free(again)
    assert blocks.num_free_blocks == 3


class TwoModels(Device):
    """Notes for each position of the cache which weights its key depends on; `forget` changes them."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.version = 0
        self.versions: dict[int, set[int]] = {}  # of each slot

    def forget(self) -> None:
        self.version += 1
        self.blocks.forget()

    def launch(self, rows: list[Row]) -> None:
        super().launch(rows)
        for row in rows:
            for position in range(row.start, row.start + row.num_tokens):
                before = self.seen(row.request, position) if position else set()
                self.versions[self.blocks.slot(row.request, position)] = before | {self.version}

    def seen(self, made: Request, length: int) -> set[int]:
        """The weights that the keys at the first positions of a request depend on."""
        return set().union(*(self.versions[self.blocks.slot(made, position)] for position in range(length)))

    def check(self) -> None:
        super().check()
        for block in self.blocks.name_of:
            slots = range(block * SIZE, (block + 1) * SIZE)
            found = set().union(*(self.versions[slot] for slot in slots))
            assert found == {self.version}, f"block {block} may be shared, and depends on the weights {found}"


ADD = st.tuples(st.just("add"), PROMPTS, st.integers(1, 6))
OTHER = st.tuples(st.sampled_from(["step", "step", "step", "end", "preempt", "forget"]), st.integers(0, 9), st.none())


@settings(max_examples=150, deadline=None)
@given(num_blocks=st.integers(6, 14), operations=st.lists(ADD | OTHER, min_size=10, max_size=60))
def test_whenever_it_forgets_no_old_key_is_shared(num_blocks: int, operations: list[tuple]):
    """Random arrivals, steps, cancels, preemptions and changes: a named block depends on the newest weights alone."""
    device = TwoModels(num_blocks)
    scheduler = device.scheduler
    for kind, what, more in operations:
        if kind == "add":
            device.add(what, more)
        elif kind == "step":
            device.step()
        elif kind == "forget":
            device.forget()
        elif scheduler.running:
            chosen = scheduler.running[what % len(scheduler.running)]
            scheduler.finish(chosen) if kind == "end" else scheduler.preempt(chosen)
        device.check()
    for _ in range(400):
        if not (scheduler.waiting or scheduler.running or device.in_flight):
            break
        device.step()
        device.check()
    assert device.blocks.num_free_blocks == num_blocks, "no request is left, and not all blocks are free"
