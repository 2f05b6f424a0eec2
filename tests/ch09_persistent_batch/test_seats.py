"""Exercise 9.1: a seat is left, and nothing of its holder is left in it."""

import numpy as np
import pytest

from ch09_persistent_batch import SeatedRequest, Seats
from tests.causes import likely
from tests.ch09_persistent_batch.array_results import is_array
from tests.ch09_persistent_batch.seated import request, seats_with

COUNTS = ("computed", "known", "promised", "limit", "num_blocks")
BEHIND = 60  # stands in the tables behind a seat's blocks


def with_output(*blocks: int) -> tuple[Seats, SeatedRequest, int]:
    """Four seats, all taken, and the request in seat 2: it has sampled 7, 8 and 9, and owns these blocks.

    In the last seat sits another one, with the blocks 40 and 41.
    """
    seats, requests = seats_with(6, 5, 4, 3, max_rows=4)
    seat = requests[0].seat
    seats.tokens[seat, 6:9] = [7, 8, 9]
    seats.known[seat] = 9
    seats.computed[:], seats.promised[:] = seats.known, seats.known + 1
    seats.tables[:] = BEHIND
    seats.tables[seat, : len(blocks)] = blocks
    seats.tables[-1, :2] = 40, 41
    seats.num_blocks[:] = 2
    seats.num_blocks[seat] = len(blocks)
    seats.epoch[:] = 3, 1, 4, 2
    return seats, requests[0], seat


def columns(seats: Seats) -> dict[str, np.ndarray]:
    return {name: values for name, values in vars(seats).items() if isinstance(values, np.ndarray)}


def is_last_seats(seats: Seats, before: np.ndarray, name: str) -> bool:
    """Whether this column has changed in the last seat, to which -1 leads."""
    return bool((getattr(seats, name)[-1] != before[-1]).any())


GONE = "What changed is the last seat: request.seat is -1 by now (`save`), so use `seat`"


@pytest.mark.exercise("9.1")
def test_the_blocks_come_back_in_order():
    """`leave` returns the blocks that the request had, first one first, and nothing behind them."""
    seats, leaving, _ = with_output(12, 3, 8)
    blocks = is_array(seats.leave(leaving), "leave", "i").tolist()
    assert blocks == [12, 3, 8], f"the request had the blocks 12, 3 and 8; leave returned {blocks}. " + likely(
        (blocks == [], "There are none: was `num_blocks` 0 already when they were read? Read them before it becomes 0"),
        (blocks[:2] == [40, 41], "These are the last seat's: request.seat is -1 by now (`save`), so use `seat`"),
        (blocks[:3] == [12, 3, 8], "How many of a row of `tables` are a seat's own says `num_blocks`: 3 here"),
        (sorted(blocks) == [3, 8, 12], "In order of position, as the table has them"),
    )


@pytest.mark.exercise("9.1")
def test_the_blocks_are_a_copy():
    """The seat's next owner writes into `tables`; the blocks that were returned must not change with it."""
    seats, leaving, seat = with_output(12, 3, 8)
    blocks = is_array(seats.leave(leaving), "leave", "i")
    assert not np.shares_memory(blocks, seats.tables), (
        "what leave has returned lies in the memory of `tables`: a slice is a view, and would become the blocks of the "
        "seat's next holder. Copy it"
    )


@pytest.mark.exercise("9.1")
@pytest.mark.parametrize("name", COUNTS)
def test_every_count_is_0(name: str):
    """A seat that is left has 0 in all five: that is how a step knows that it is free."""
    seats, leaving, seat = with_output(12, 3)
    before = getattr(seats, name).copy()
    seats.leave(leaving)
    seen = getattr(seats, name)[seat]
    assert seen == 0, (
        f"{name} of the seat should be 0 when its request has left, and is {seen}; a step would go on with it. "
        + likely((is_last_seats(seats, before, name), GONE))
    )


@pytest.mark.exercise("9.1")
def test_the_epoch_advances():
    """Rows in flight of the request that left are told from those of the next one by the seat's epoch."""
    seats, leaving, seat = with_output(12)
    before = seats.epoch.copy()
    seats.leave(leaving)
    seen, others = seats.epoch[seat], np.flatnonzero(np.delete(seats.epoch != before, seat))
    assert seen > before[seat], (
        f"the epoch of the seat was {before[seat]} and should have advanced; it is {seen}. With an epoch that was "
        "there before, a row in flight would bring its token to the seat's next holder. "
        + likely((is_last_seats(seats, before, "epoch"), GONE))
    )
    assert not len(others), (
        f"the epochs were {before.tolist()} and are {seats.epoch.tolist()}: only that of seat {seat}, which was left, "
        "should advance. The rows in flight of the others still count"
    )


@pytest.mark.exercise("9.1")
def test_no_other_seat_changes():
    """One request has left: in all columns the other seats are as they were."""
    seats, leaving, seat = with_output(12, 3)
    before = {name: values.copy() for name, values in columns(seats).items()}
    seats.leave(leaving)
    for name, values in columns(seats).items():
        changed = [i for i in range(seats.max_rows) if i != seat and not np.array_equal(values[i], before[name][i])]
        assert not changed, (
            f"seat {seat} was left, and {name} changed in the seats {changed} too: it was {before[name].tolist()}, and "
            f"is {values.tolist()}. " + likely((changed == [3], GONE), otherwise=f"Write to {name}[seat] only")
        )


@pytest.mark.exercise("9.1")
def test_the_table_holds_valid_blocks_all_the_same():
    """Behind `num_blocks` a table has no meaning, but always valid block numbers: a step packs whole columns of it."""
    seats, leaving, seat = with_output(12, 3)
    seats.leave(leaving)
    assert (seats.tables[seat] >= 0).all(), (
        f"the seat's row of `tables` should hold block numbers, and begins with {seats.tables[seat, :3].tolist()}: "
        "leave the table as it is. That none of it counts any more is what num_blocks == 0 says"
    )


def test_the_request_takes_its_output_along():
    """What its columns knew is in the request's own fields, and it has no seat."""
    seats, leaving, seat = with_output(12)
    seats.leave(leaving)
    assert (leaving.output_ids, leaving.seat, seats.requests[seat]) == ([7, 8, 9], -1, None)


def test_a_seat_is_handed_out_again():
    """The next one gets a seat that was left; only then the order of arrival is asked for again."""
    seats, requests = seats_with(5, 6, 4, max_rows=3)
    order = seats.order
    assert seats.order is order, "no request has come or left: the same array"
    seat = requests[0].seat
    seats.leave(requests[0])
    late = request(5, 3)
    assert seats.join(late) == seat
    assert [seats.requests[i].request_id for i in seats.order] == ["b", "c", "f"]


def test_a_request_that_comes_back_brings_its_output():
    """Prompt and output are computed like one long prompt; its limit is that of the prompt all the same."""
    seats, requests = seats_with(5)
    seats.leave(requests[0])
    requests[0].output_ids = [7, 8]
    seat = seats.join(requests[0])
    assert seats.tokens[seat, :7].tolist() == [0, 1, 2, 3, 4, 7, 8]
    assert (seats.known[seat], seats.promised[seat], seats.computed[seat]) == (7, 7, 0)
    assert (seats.limit[seat], seats.first[seat]) == (13, 6)


def test_clearing_keeps_what_the_requests_have():
    seats, leaving, _ = with_output(12, 3)
    requests, epochs = seats.holders.tolist(), seats.epoch.copy()
    seats.clear(requests)
    assert leaving.output_ids == [7, 8, 9] and {each.seat for each in requests} == {-1}
    assert seats.num_taken == 0 and not seats.order.size and (seats.epoch > epochs).all()
