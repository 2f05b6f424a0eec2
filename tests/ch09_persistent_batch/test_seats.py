"""Exercise 9.1: a seat is left, and nothing of its holder is left in it."""

import numpy as np
import pytest

from ch09_persistent_batch import SeatedRequest
from tests.causes import has_result
from tests.ch09_persistent_batch.seated import request, seats_with

COUNTS = ("computed", "known", "promised", "limit", "num_blocks")


def with_output(*blocks: int):
    """Three seats; the second one's request has sampled 7, 8 and 9, and owns these blocks."""
    seats, requests = seats_with(5, 6, 4)
    seat = requests[1].seat
    seats.tokens[seat, 6:9] = [7, 8, 9]
    seats.known[seat], seats.promised[seat], seats.computed[seat] = 9, 10, 9
    seats.tables[seat, : len(blocks)] = blocks
    seats.num_blocks[seat] = len(blocks)
    return seats, requests, seat


@pytest.mark.exercise("9.1")
def test_the_blocks_come_back_in_order():
    """`leave` returns the blocks that the request had, first one first, and nothing behind them."""
    seats, requests, seat = with_output(12, 3, 8)
    seats.tables[seat, 3] = 99  # of somebody who sat here before
    blocks = seats.leave(requests[1])
    has_result(blocks, "leave")
    assert blocks.tolist() == [12, 3, 8], (
        f"the request had the blocks 12, 3 and 8; leave returned {blocks.tolist()}. How many of a row of `tables` are "
        "its own says `num_blocks`, as long as it is not 0 yet"
    )


@pytest.mark.exercise("9.1")
def test_the_blocks_are_a_copy():
    """Whoever sits there next writes into `tables`; the blocks that were returned must not change with it."""
    seats, requests, seat = with_output(12, 3, 8)
    blocks = seats.leave(requests[1])
    seats.tables[seat] = 55
    assert blocks.tolist() == [12, 3, 8], (
        f"the seat's table was written again, and what leave had returned became {blocks.tolist()}: a slice is a view. "
        "Copy it"
    )


@pytest.mark.exercise("9.1")
@pytest.mark.parametrize("name", COUNTS)
def test_every_count_is_0(name: str):
    """A seat that is left has 0 in all five: that is what a step takes for "nobody sits here"."""
    seats, requests, seat = with_output(12, 3)
    seats.leave(requests[1])
    assert getattr(seats, name)[seat] == 0, (
        f"{name} of the seat is {getattr(seats, name)[seat]} after its request has left; a step would go on with it"
    )


@pytest.mark.exercise("9.1")
def test_the_epoch_advances():
    """Rows in flight of the request that left are told from those of the next one by the seat's epoch."""
    seats, requests, seat = with_output(12)
    before = seats.epoch.copy()
    seats.leave(requests[1])
    changed = np.flatnonzero(seats.epoch != before).tolist()
    assert changed == [seat] and seats.epoch[seat] > before[seat], (
        f"the epoch of seat {seat} was {before[seat]} and is {seats.epoch[seat]}; of all seats, those changed: "
        f"{changed}. With the same epoch a row in flight would bring its token to whoever sits there next"
    )


@pytest.mark.exercise("9.1")
def test_nobody_elses_columns_change():
    seats, requests, seat = with_output(12, 3)
    others = [i for i in range(seats.max_rows) if i != seat]
    before = {name: getattr(seats, name)[others].copy() for name in COUNTS}
    seats.leave(requests[1])
    changed = [name for name in COUNTS if not np.array_equal(before[name], getattr(seats, name)[others])]
    assert not changed, f"one request has left, and {', '.join(changed)} of other seats changed: write to its seat only"


def test_the_request_takes_its_output_along():
    """What its columns knew is in the request's own fields, and it has no seat."""
    seats, requests, seat = with_output(12)
    seats.leave(requests[1])
    assert (requests[1].output_ids, requests[1].seat, seats.requests[seat]) == ([7, 8, 9], -1, None)


def test_a_seat_is_handed_out_again():
    """The next one gets a seat that was left; who sits where, in order of arrival, is asked anew only then."""
    seats, requests = seats_with(5, 6, 4, max_rows=3)
    order = seats.order
    assert seats.order is order, "nobody has come or left: the same array"
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
    seats, requests, seat = with_output(12, 3)
    epochs = seats.epoch.copy()
    seats.clear(requests)
    assert requests[1].output_ids == [7, 8, 9] and {r.seat for r in requests} == {-1}
    assert seats.num_taken == 0 and not seats.order.size and (seats.epoch > epochs).all()
    assert isinstance(requests[0], SeatedRequest)
