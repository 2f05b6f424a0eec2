"""Exercises 9.2 to 9.4: budget and blocks for all requests at once."""

import numpy as np
import pytest

from ch02_continuous_batching import RequestStatus
from tests.causes import has_result
from tests.ch09_persistent_batch.seated import array, decoding, scheduler_with


def shares(scheduler, budget: int, *counts: int) -> list[int]:
    scheduler.budget_left = budget
    served = scheduler.within_budget(array(*counts))
    has_result(served, "within_budget")
    return served.tolist()


@pytest.mark.exercise("9.2")
@pytest.mark.parametrize(
    ("budget", "counts", "right"),
    [
        (10, (3, 1, 1), [3, 1, 1]),
        (5, (3, 1, 1), [3, 1, 1]),
        (4, (3, 1, 1), [3, 1, 0]),
        (6, (1, 9, 1), [1, 5, 0]),
        (3, (9, 9, 9), [3, 0, 0]),
        (0, (2, 1), [0, 0]),
        (4, (0, 3, 0, 5), [0, 3, 0, 1]),
        (2, (2, 0, 0), [2, 0, 0]),
    ],
)
def test_the_budget_is_shared_out_in_order(budget: int, counts: tuple[int, ...], right: list[int]):
    """Each gets what it wants as long as there is enough; the last one gets a part, those behind it nothing."""
    scheduler, _ = scheduler_with(1)
    seen = shares(scheduler, budget, *counts)
    assert seen == right, (
        f"a budget of {budget} for {list(counts)}: should be {right}, seen {seen}. What those before somebody want is "
        "a running sum without its own part; what the budget leaves after it lies between 0 and what it wants"
    )


@pytest.mark.exercise("9.2")
def test_many_random_budgets():
    """As sharing it out in a loop."""
    scheduler, _ = scheduler_with(1)
    random = np.random.default_rng(0)
    for _ in range(200):
        counts = random.integers(0, 9, random.integers(1, 12))
        left = budget = int(random.integers(0, 30))
        right = []
        for count in counts.tolist():
            right.append(min(count, left))
            left -= right[-1]
        assert shares(scheduler, budget, *counts.tolist()) == right, f"a budget of {budget} for {counts.tolist()}"


def extended(more: dict[int, int], owned: dict[int, list[int]]):
    """Seats after `extend_tables`, and the blocks that it took; `owned` are the blocks of each seat before."""
    scheduler, requests = scheduler_with(*[4] * 6)
    s = scheduler.seats
    for each in requests:
        s.join(each)
    for seat, blocks in owned.items():
        s.tables[seat, : len(blocks)] = blocks
        s.num_blocks[seat] = len(blocks)
    taken: list[int] = []
    take = scheduler.blocks.take

    def watched(count):
        blocks = take(count)
        taken.extend(blocks.tolist())
        return blocks

    scheduler.blocks.take = watched
    s.grown[:] = False
    scheduler.extend_tables(array(*more), array(*more.values()))
    return s, taken


@pytest.mark.exercise("9.3")
def test_new_blocks_are_appended():
    """Behind the blocks that a seat has, as many as it is short of; those it had stay."""
    s, taken = extended({3: 2, 0: 1, 5: 3}, {3: [61, 62], 0: [], 5: [63]})
    tables = {seat: s.tables[seat, : s.num_blocks[seat]].tolist() for seat in (3, 0, 5)}
    assert {seat: len(table) for seat, table in tables.items()} == {3: 4, 0: 1, 5: 4}, (
        f"num_blocks should be 4, 1 and 4 for the seats 3, 0 and 5, which had 2, 0 and 1 and got 2, 1 and 3; the "
        f"tables are {tables}"
    )
    assert (tables[3][:2], tables[5][:1]) == ([61, 62], [63]), (
        f"blocks that a seat had are gone: {tables}. New ones go behind them"
    )
    new = tables[3][2:] + tables[0] + tables[5][1:]
    assert len(taken) == 6, f"2 + 1 + 3 blocks are needed, and {len(taken)} were taken"
    assert sorted(new) == sorted(taken), f"the blocks {taken} were taken; in the tables are the new ones {new}"


@pytest.mark.exercise("9.3")
def test_only_those_that_got_blocks_have_grown():
    """The packer writes the tables again that have grown, and only those."""
    s, _ = extended({3: 1, 1: 1}, {2: [60]})
    assert np.flatnonzero(s.grown).tolist() == [1, 3], (
        f"the seats 1 and 3 got blocks; as grown are marked {np.flatnonzero(s.grown).tolist()}"
    )


@pytest.mark.exercise("9.3")
def test_every_block_has_one_owner():
    """Over many random needs no block is in two tables, and none is lost."""
    random = np.random.default_rng(1)
    for _ in range(50):
        seats = random.permutation(6)[: random.integers(1, 7)].tolist()
        s, taken = extended(dict(zip(seats, random.integers(1, 4, len(seats)).tolist(), strict=True)), {})
        held = [block for seat in range(6) for block in s.tables[seat, : s.num_blocks[seat]].tolist()]
        assert sorted(held) == sorted(taken), f"taken were {sorted(taken)}, in the tables are {sorted(held)}"


def running_with_short_blocks():
    """Four requests that have just filled their block and decode on, with a single free block for them."""
    scheduler, requests = scheduler_with(4, 4, 4, 4, num_blocks=9)
    scheduler.schedule()
    decoding(scheduler, *(each.seat for each in requests))
    scheduler.blocks.take(scheduler.blocks.num_free_blocks - 1)
    return scheduler, requests


@pytest.mark.exercise("9.4")
def test_short_of_blocks_the_first_are_served_and_the_last_makes_room():
    """One block is free: a gets it; for b the latest, d, has to go; for c there is no one left."""
    scheduler, requests = running_with_short_blocks()
    rows = scheduler.schedule()
    served = [row.request.request_id for row in rows]
    gone = [each.request_id for each in requests if each.status is RequestStatus.WAITING]
    assert (served, gone) == (["a", "b"], ["d"]), (
        f"one free block for four requests that need one each: served {served}, preempted {gone}. Serve the first "
        "half, then the second, each with what is left then; down to one, for which others have to go"
    )


@pytest.mark.exercise("9.4")
def test_short_of_blocks_it_goes_as_one_by_one():
    """The rows and those preempted are the same as in chapter 2, over many random pools."""
    from tests.ch09_persistent_batch.one_by_one import schedules_alike

    assert sum(schedules_alike(seed) for seed in range(60)) > 20, "nobody had to be preempted: this tested nothing"


@pytest.mark.exercise("9.4")
def test_with_enough_blocks_all_are_served_at_once():
    """No halving where it is not needed: one part, with the very array of seats that the last step had."""
    scheduler, requests = scheduler_with(4, 4, 4)
    scheduler.schedule()
    decoding(scheduler, *(each.seat for each in requests))
    rows = scheduler.schedule()
    assert len(scheduler.parts) == 1 and rows.seats is scheduler.seats.order, (
        f"there are blocks for all, and the rows were made in {len(scheduler.parts)} parts: what is the same as in the "
        "last step could not be told any more"
    )


def test_a_request_that_will_have_all_its_tokens_is_left_out():
    """A token in flight will be its last: nothing more of it is scheduled, though it is not committed yet."""
    scheduler, requests = scheduler_with(4)
    requests[0].params.__dict__["max_tokens"] = 1
    assert len(scheduler.schedule()) == 1
    assert len(scheduler.schedule()) == 0


def test_a_row_is_of_the_seat_as_it_was():
    """Rows say who had the seat; when it was left, they do not count any more."""
    scheduler, requests = scheduler_with(4, 5)
    rows = scheduler.schedule()
    assert [(r.request.request_id, r.start, r.num_tokens, r.samples) for r in rows] == [
        ("a", 0, 4, True),
        ("b", 0, 5, True),
    ]
    scheduler.preempt(requests[1])
    assert rows.alive.tolist() == [True, False] and rows[1].request is requests[1]
