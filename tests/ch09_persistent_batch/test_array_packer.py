"""Exercise 9.5: the inputs of all packed tokens."""

import numpy as np
import pytest

from ch07_carry_over import KEEP
from ch09_persistent_batch import ArrayPacker, Seats
from tests.causes import likely
from tests.ch09_persistent_batch.array_results import stay
from tests.ch09_persistent_batch.no_loop import has_no_loop, many_seats
from tests.ch09_persistent_batch.packers import packer_for
from tests.ch09_persistent_batch.seated import BLOCK_SIZE, array, seats_with

PER_TOKEN = ("input_ids", "carry_index", "position_ids", "slot_mapping")
LAST_STEPS = 3  # stands in all columns: what the last step has written there


def write(packer: ArrayPacker, owner: list[int], positions: list[int]) -> None:
    """`write_packed_tokens` for these tokens, into columns that still hold the last step."""
    columns = dict(packer.columns)
    for name in PER_TOKEN:
        columns[name][:] = LAST_STEPS
    arguments = array(*owner), array(*positions)
    try:
        packer.write_packed_tokens(*arguments)
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
        pytest.fail(
            f"{error}. There are {len(owner)} packed tokens, so {len(owner)} entries of each column are written, "
            "[:num]; an array that is asked for a seat and a place of each takes both as one index: [owner, ...]"
        )
    stay({"owner": owner, "positions": positions}, "write_packed_tokens", *arguments)
    other = [name for name in PER_TOKEN if packer.columns[name] is not columns[name]]
    assert not other, (
        f"{other} in `columns` are other arrays now, and no part of `buffer`, which is what the launch copies. Write "
        f'into the entries of the array that is there: at["{other[0]}"][:num] = ...'
    )


def written(seats: Seats, owner: list[int], positions: list[int]) -> dict[str, list[int]]:
    packer = packer_for(seats)
    write(packer, owner, positions)
    return {name: packer.columns[name][: len(owner)].tolist() for name in PER_TOKEN}


def seats_in_decode() -> tuple[Seats, int, int, int]:
    """Three requests. a knows its next token; those of b and c are in flight, as ids 1 and 0 of the batch before."""
    seats, requests = seats_with(5, 6, 4)
    a, b, c = (each.seat for each in requests)
    seats.tables[:] = 17
    for seat, blocks in ((a, [12, 3]), (b, [8, 30]), (c, [5, 9])):
        seats.tables[seat, :2] = blocks
        seats.num_blocks[seat] = 2
    seats.computed[[a, b, c]] = 4, 6, 4
    seats.promised[[a, b, c]] = 5, 7, 5
    seats.sampled_at[[a, b, c]] = [7, 1, 0]
    seats.tokens[[b, c], [6, 4]] = [91, 92]  # of who sat there before: no value of theirs
    return seats, a, b, c


@pytest.mark.exercise("9.5")
def test_the_token_at_its_place():
    """Position p of a seat is its p-th token, and its slot is in the block that its table has for p."""
    seats, a, b, _ = seats_in_decode()
    seen = written(seats, [a, b, b, b], [4, 0, 1, 5])
    assert seen["input_ids"] == [4, 100, 101, 105], (
        f"the tokens at positions 4 of a and 0, 1 and 5 of b: input_ids should be [4, 100, 101, 105], seen "
        f"{seen['input_ids']}"
    )
    assert seen["position_ids"] == [4, 0, 1, 5], f"position_ids should be [4, 0, 1, 5], seen {seen['position_ids']}"
    right = [3 * BLOCK_SIZE, 8 * BLOCK_SIZE, 8 * BLOCK_SIZE + 1, 30 * BLOCK_SIZE + 1]
    assert seen["slot_mapping"] == right, (
        f"blocks of {BLOCK_SIZE}; a has the blocks 12 and 3, b has 8 and 30. Position 4 of a is the first in its "
        f"second block, 3: slot {right[0]}, and so on. slot_mapping should be {right}, seen {seen['slot_mapping']}: "
        + likely(
            (
                seen["slot_mapping"] == [4, 0, 1, 5],
                "these are the positions; `tables` says which block a seat has for each piece of its sequence",
            ),
            otherwise="block * block_size + offset",
        )
    )


@pytest.mark.exercise("9.5")
def test_what_the_host_knows_is_kept():
    """A token below `known` is not carried over: its carry index is KEEP, whatever stood there before."""
    seats, a, b, _ = seats_in_decode()
    seen = written(seats, [a, b, b], [4, 4, 5])["carry_index"]
    assert seen == [KEEP] * 3, (
        f"all three tokens are known: the carry index should be {[KEEP] * 3}, seen {seen}. "
        + likely(
            (
                seen == [LAST_STEPS] * 3,
                f"{LAST_STEPS} is what the last step has written: KEEP has to be written as well",
            ),
            (seen == [7, KEEP, KEEP], "a's position 4 is below `known`, which is 5, as `promised` is"),
            (
                seen == [KEEP, 1, 1],
                "b has one token in flight, at position 6, and its positions 4 and 5 are known: it depends on the "
                "token, not on its request",
            ),
            (seen == [7, 1, 1], "These are `sampled_at`, which is for tokens that the host does not know yet"),
        )
    )


@pytest.mark.exercise("9.5")
def test_what_is_in_flight_is_carried_over():
    """Position `known` is the one that the seat has sampled in the batch before, where `sampled_at` says."""
    seats, a, b, c = seats_in_decode()
    seen = written(seats, [a, b, c], [4, 6, 4])["carry_index"]
    assert seen == [KEEP, 1, 0], (
        f"a's token is known; the ids of b and c are number 1 and 0 of the batch before: the carry index should be "
        f"{[KEEP, 1, 0]}, seen {seen}. "
        + likely(
            (seen == [LAST_STEPS, 1, 0], f"{LAST_STEPS} is what the last step has written: write KEEP as well"),
            (seen == [KEEP, b, c], "Those are the numbers of their seats: ask `sampled_at` for these"),
            (
                seen == [KEEP, *seats.sampled_at[[6, 4]].tolist()],
                "`sampled_at` has an entry for each seat, and was asked for positions",
            ),
            (seen == [KEEP, 1, 2], "The place in this batch is not that in the batch before: ask `sampled_at`"),
            (seen == [7, 1, 0], "a's position 4 is below `known`, which is 5, as `promised` is"),
            (
                seen == [KEEP, KEEP, KEEP],
                "b is at position 6, with known 6 and promised 7: a position below `known` is known, and the one at "
                "`known` is not; `promised` counts what is in flight too",
            ),
        )
    )


@pytest.mark.exercise("9.5")
def test_only_what_is_there_is_written():
    """Behind the tokens of the step, and in all other columns, everything stays."""
    seats, a, *_ = seats_in_decode()
    packer = packer_for(seats)
    before = {name: packer.columns[name].copy() for name in packer.columns}
    write(packer, [a], [4])
    for name, column in packer.columns.items():
        rest = column[1:] if name in PER_TOKEN else column
        stays = np.full_like(rest, LAST_STEPS) if name in PER_TOKEN else before[name]
        assert np.array_equal(rest, stays), (
            f"one token was packed, and {name} changed {'behind it' if name in PER_TOKEN else 'too'}: it was "
            f"{stays.ravel()[:6].tolist()} ..., and is {rest.ravel()[:6].tolist()} ..."
        )


@pytest.mark.exercise("9.5")
def test_tokens_without_a_loop():
    """For more tokens Python runs no more lines."""

    def prepared(rows: int):
        seats, owner = many_seats(rows, known=6, promised=7, num_blocks=2)
        packer = packer_for(seats, rows)
        return lambda: packer.write_packed_tokens(owner, np.full(rows, 6))

    has_no_loop("write_packed_tokens", prepared)
