"""Exercise 9.5: the inputs of all packed tokens; and what a step leaves as it was."""

import numpy as np
import pytest
import torch

from ch03_streams import BufferSizes
from ch07_carry_over import KEEP, carry_padding
from ch08_full_engine.packed_buffers import num_bytes, views
from ch09_persistent_batch import ArrayPacker
from tests.causes import likely
from tests.ch09_persistent_batch.seated import BLOCK_SIZE, array, decoding, scheduler_with, seats_with

SIZES = BufferSizes(tokens=32, rows=8, width=16, trash_block=64, block_size=BLOCK_SIZE)
PER_TOKEN = ("input_ids", "carry_index", "position_ids", "slot_mapping")


class Buffers:
    """What a packer has to know of its IO buffers: padding, and where each input lies in one piece of memory."""

    def __init__(self) -> None:
        separate = carry_padding(SIZES)
        self.padding_buffer = torch.zeros(num_bytes(separate), dtype=torch.uint8)
        self.padding = views(self.padding_buffer, separate)
        for name, values in separate.items():
            self.padding[name].copy_(values)


def packer_for(seats) -> ArrayPacker:
    return ArrayPacker(seats, BLOCK_SIZE, Buffers())  # type: ignore[arg-type]


def written(seats, owner: list[int], positions: list[int]) -> dict[str, list[int]]:
    """What `write_packed_tokens` writes for these tokens."""
    packer = packer_for(seats)
    packer.write_packed_tokens(array(*owner), array(*positions))
    return {name: packer.columns[name][: len(owner)].tolist() for name in PER_TOKEN}


def seats_in_decode():
    """Three requests. a knows its next token; those of b and c are in flight, as ids 1 and 0 of the batch before."""
    seats, requests = seats_with(5, 6, 4)
    a, b, c = (each.seat for each in requests)
    for seat, blocks in ((a, [12, 3]), (b, [8, 30]), (c, [5, 9])):
        seats.tables[seat, :2] = blocks
        seats.num_blocks[seat] = 2
    seats.sampled_at[[a, b, c]] = [7, 1, 0]
    seats.tokens[[b, c], [6, 4]] = [91, 92]  # of who sat there before: no value of theirs
    return seats, a, b, c


@pytest.mark.exercise("9.5")
def test_the_token_at_its_place():
    """Position p of a seat is its p-th token, and its slot is in the block that its table has for p."""
    seats, a, b, _ = seats_in_decode()
    seen = written(seats, [a, b, b, b], [4, 0, 1, 5])
    assert seen["input_ids"] == [4, 100, 101, 105], f"the tokens are 4, 100, 101 and 105; seen {seen['input_ids']}"
    assert seen["position_ids"] == [4, 0, 1, 5], f"positions as given; seen {seen['position_ids']}"
    right = [3 * BLOCK_SIZE, 8 * BLOCK_SIZE, 8 * BLOCK_SIZE + 1, 30 * BLOCK_SIZE + 1]
    assert seen["slot_mapping"] == right, (
        f"blocks of {BLOCK_SIZE}; position 4 of a is the first in its second block, 3: slot {right[0]}, and so on. "
        f"Should be {right}, seen {seen['slot_mapping']}: block * block_size + offset"
    )


@pytest.mark.exercise("9.5")
def test_what_the_host_knows_is_kept():
    """A token below `known` is no carried one, whatever the seat has sampled before."""
    seats, a, b, _ = seats_in_decode()
    seen = written(seats, [a, b, b], [4, 4, 5])["carry_index"]
    assert seen == [KEEP] * 3, f"all three tokens are known: the carry index should be {[KEEP] * 3}, seen {seen}"


@pytest.mark.exercise("9.5")
def test_what_is_in_flight_is_carried_over():
    """Position `known` is the one that the seat has sampled in the batch before, where `sampled_at` says."""
    seats, a, b, c = seats_in_decode()
    seen = written(seats, [a, b, c], [4, 6, 4])["carry_index"]
    assert seen == [KEEP, 1, 0], (
        f"the ids of b and c stand at 1 and 0: should be {[KEEP, 1, 0]}, seen {seen}. "
        + likely(
            (seen == [KEEP, 1, 2], "The place in this batch is not that in the batch before: ask `sampled_at`"),
            (seen == [7, 1, 0], "a's token is known: `known` tells"),
            (KEEP in seen[1:], "A position is known below `known`; the one at `known` is not"),
        )
    )


@pytest.mark.exercise("9.5")
def test_only_what_is_there_is_written():
    """Behind the tokens of the step the padding stays."""
    seats, a, *_ = seats_in_decode()
    packer = packer_for(seats)
    before = {name: packer.columns[name].copy() for name in packer.columns}
    packer.write_packed_tokens(array(a), array(4))
    changed = [
        name
        for name in packer.columns
        if not np.array_equal(packer.columns[name][1:], before[name][1:])
        or (name not in PER_TOKEN and (packer.columns[name] != before[name]).any())
    ]
    assert not changed, f"one token was packed; behind it, or elsewhere, these changed: {changed}"


def test_in_steady_decode_the_carry_index_is_the_identity():
    """The rows are those of the step before, in the same order: token i is the id that row i has sampled."""
    scheduler, requests = scheduler_with(4, 5, 6)
    packer = packer_for(scheduler.seats)
    packer.pack(0, scheduler.schedule(), None)
    packer.pack(1, scheduler.schedule(), None)
    assert packer.columns["carry_index"][:3].tolist() == [0, 1, 2]
    scheduler.preempt(requests[0])
    packer.pack(2, scheduler.schedule(), None)
    assert packer.columns["carry_index"][:2].tolist() == [1, 2], "one has left: the others have moved up, their ids not"


def test_what_did_not_change_is_not_written():
    """The same rows as before: tables that have not grown, and padding, are left alone; a table that has is written."""
    scheduler, requests = scheduler_with(4, 6)
    packer, s = packer_for(scheduler.seats), scheduler.seats
    packer.pack(0, scheduler.schedule(), None)
    for step in (1, 2):
        decoding(scheduler, *(each.seat for each in requests))
        packer.pack(step, scheduler.schedule(), None)
    packer.columns["block_table"][:2] = 77
    packer.columns["uniform"][5] = 0.5
    decoding(scheduler, *(each.seat for each in requests))
    packer.pack(3, scheduler.schedule(), None)  # b goes from 8 positions to 9
    table = packer.columns["block_table"][:2, :3].tolist()
    assert table == [[77, 77, 77], s.tables[requests[1].seat, :3].tolist()] and packer.columns["uniform"][5] == 0.5


def test_after_other_rows_everything_is_written():
    """Somebody has left: the row behind the others is padding again."""
    scheduler, requests = scheduler_with(4, 6, 5)
    packer = packer_for(scheduler.seats)
    packer.pack(0, scheduler.schedule(), None)
    decoding(scheduler, *(each.seat for each in requests))
    packer.pack(1, scheduler.schedule(), None)
    scheduler.finish(requests[1])
    decoding(scheduler, requests[0].seat, requests[2].seat)
    batch = packer.pack(2, scheduler.schedule(), None)
    padding = carry_padding(SIZES)
    assert batch.inputs.sizes.rows == 2
    for name in ("seq_lens", "block_table", "position_ids", "slot_mapping", "carry_index"):
        assert packer.columns[name][2:].tolist() == padding[name][2:].tolist(), f"{name} behind the rows"
