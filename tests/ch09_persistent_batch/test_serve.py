"""Exercise 9.4: rows are halved until they fit, and only then others have to go."""

from typing import cast

import pytest

from ch02_continuous_batching import RequestStatus, SamplingParams
from ch09_persistent_batch import SeatedRequest
from tests.causes import likely
from tests.ch09_persistent_batch.one_by_one import schedules_alike
from tests.ch09_persistent_batch.seated import BLOCK_SIZE, decoding, scheduler_with
from tests.ch09_persistent_batch.watched import Watched

MANY, FREE = 128, 124  # rows, and blocks for them


def with_full_blocks(free: int) -> tuple[Watched, list[SeatedRequest]]:
    """Four requests that have just filled their block and decode on, with so many free blocks for them."""
    made, requests = scheduler_with(4, 4, 4, 4, num_blocks=9, make=Watched)
    scheduler = cast(Watched, made)
    scheduler.schedule()
    decoding(scheduler, *(each.seat for each in requests))
    scheduler.blocks.take(scheduler.blocks.num_free_blocks - free)
    scheduler.served.clear()
    scheduler.taken.clear()
    return scheduler, requests


@pytest.mark.exercise("9.4")
@pytest.mark.parametrize("free", [4, 5])
def test_with_enough_blocks_all_are_served_at_once(free: int):
    """No halving where it is not needed: one part, with the very array of seats that the last step had."""
    scheduler, _ = with_full_blocks(free)
    rows = scheduler.schedule()
    parts = [len(part) for part in scheduler.parts]
    assert parts == [4], (
        f"4 rows need a block each, and {free} are free, which is enough: one call of `take` should make 4 rows; "
        f"calls of it have made {parts}"
    )
    assert rows.seats is scheduler.seats.order, (
        "all 4 rows were made at once, but their seats are another array than the one that serve was given (a copy, or "
        "a slice): hand `rows` itself to take. The packer tells by it whether the rows are those of the last step"
    )


@pytest.mark.exercise("9.4")
def test_short_of_blocks_the_first_are_served_and_the_last_makes_room():
    """One block is free: a gets it; for b the latest, d, has to go; for c there is no one left."""
    scheduler, requests = with_full_blocks(1)
    _, b, c, d = (each.seat for each in requests)
    served = [row.request.request_id for row in scheduler.schedule()]
    gone = [each.request_id for each in requests if each.status is RequestStatus.WAITING]
    assert (served, gone) == (["a", "b"], ["d"]), (
        f"one free block for a, b, c and d, which need one each: served should be ['a', 'b'] and preempted ['d']; seen "
        f"{served} and {gone}. "
        + likely(
            ([b] not in scheduler.served, "serve was not called for b alone: are both halves served?"),
            (scheduler.served[1:2] == [[c, d]], "The second half was served before the first"),
            (not scheduler.rooms, "For a single row that lacks a block others have to go: make_room_for"),
            (
                scheduler.rooms[:1] != [b],
                f"make_room_for was called for seat {scheduler.rooms[:1]}; b, which lacks a block, has seat {b}: the "
                "entries of `rows` are the seats' numbers",
            ),
            ([b] not in scheduler.taken, "Where make_room_for has found room, the row is taken"),
        )
    )


@pytest.mark.exercise("9.4")
def test_short_of_blocks_it_goes_as_one_by_one():
    """The rows and those preempted are the same as in chapter 2, over many random pools."""
    assert sum(schedules_alike(seed) for seed in range(60)) > 20, "no request was preempted: this has tested nothing"


@pytest.mark.exercise("9.4")
def test_no_block_is_free_and_none_is_needed():
    """All that runs has its last token in flight: no row has anything to compute, and that is enough blocks for all."""
    scheduler, requests = with_full_blocks(0)
    scheduler.seats.limit[[each.seat for each in requests]] = 5
    seen = scheduler.schedule()
    assert len(seen) == 0, (
        f"all requests have reached their limit, and there are rows for the seats {seen.seats.tolist()}"
    )


@pytest.mark.exercise("9.4")
def test_rows_are_halved():
    """128 rows lack a block each, and 124 are free: large parts are served at once, and only the rest one by one."""
    made, _ = scheduler_with(make=Watched, num_blocks=MANY + FREE, max_rows=MANY, token_budget=MANY)
    scheduler = cast(Watched, made)
    seats = scheduler.seats
    for number in range(MANY):
        seats.join(SeatedRequest(str(number), [5, 6, 7, 8, 9], SamplingParams(), arrival=number))
    seats.tables[:, 0], seats.num_blocks[:], seats.computed[:] = scheduler.blocks.take(MANY), 1, BLOCK_SIZE
    scheduler.schedule()
    assert max(len(scheduler.served), len(scheduler.taken)) < MANY // 2, (
        f"{MANY} rows need a block each, and {FREE} are free: serve was called {len(scheduler.served)} times, and take "
        f"{len(scheduler.taken)} times. For all but a few rows there are blocks: serve half of them, then the "
        "other half, and go down to single rows only where blocks are missing"
    )
