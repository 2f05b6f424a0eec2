"""Exercise 9.3: new blocks for many seats at once."""

import numpy as np
import pytest

from ch09_persistent_batch import ArrayBlocks, PrefixArrayBlocks
from tests.causes import likely
from tests.ch09_persistent_batch.array_results import stay
from tests.ch09_persistent_batch.no_loop import has_no_loop, many_seats
from tests.ch09_persistent_batch.seated import BLOCK_SIZE, array, scheduler_with

BEHIND = 3  # stands in the tables behind a seat's blocks; like those that the seats own, it is not handed out in a test
OWNED = {3: [0, 1], 0: [], 5: [2]}
MORE = {3: 2, 0: 1, 5: 3}
NEEDED = "2 blocks for seat 3, which has 2; 1 for seat 0, which has none; 3 for seat 5, which has 1"


class Extended:
    """Seats before and after `extend_tables`, and the blocks that it took.

    Args:
        more: new blocks by seat.
        owned: the blocks of each seat before.
        grown: seats whose table has grown already in this step.
    """

    def __init__(self, more: dict[int, int], owned: dict[int, list[int]], grown: tuple[int, ...] = ()) -> None:
        scheduler, requests = scheduler_with(*[4] * 6)
        self.seats, self.blocks = scheduler.seats, scheduler.blocks
        for each in requests:
            self.seats.join(each)
        self.seats.tables[:] = BEHIND
        for seat, blocks in owned.items():
            self.seats.tables[seat, : len(blocks)] = blocks
            self.seats.num_blocks[seat] = len(blocks)
        self.seats.grown[[*grown]] = True
        self.taken: list[int] = []
        self.calls: list[int] = []
        scheduler.blocks.take = self.take  # type: ignore[method-assign]
        before = self.seats.tables.copy()
        arguments = array(*more), array(*more.values())
        try:
            scheduler.extend_tables(*arguments)
        except (ValueError, IndexError) as error:  # numpy says what shapes differ, but not why
            needed = sum(more.values())
            if self.calls and len(self.taken) != needed:
                pytest.fail(
                    f"{needed} blocks are needed, and `take` was asked for {self.calls}: take as many as are needed"
                )
            if "broadcast" not in str(error):
                raise
            pytest.fail(
                f"{error}. {needed} new blocks go to {needed} entries of `tables`: that takes a seat and a place for "
                "each of them, and a seat that gets several blocks comes several times (np.repeat)"
            )
        stay({"seats": [*more], "more": [*more.values()]}, "extend_tables", *arguments)
        self.changed = sorted(map(tuple, np.argwhere(self.seats.tables != before).tolist()))

    def take(self, count: int) -> np.ndarray:
        blocks = type(self.blocks).take(self.blocks, count)
        self.calls.append(count)
        self.taken.extend(blocks.tolist())
        return blocks

    def table(self, seat: int) -> list[int]:
        return self.seats.tables[seat, : self.seats.num_blocks[seat]].tolist()


def places(restarted: bool, behind: bool, counted: bool = False) -> list[tuple[int, int]]:
    """Where the new blocks of MORE go. A mistake: the count does not restart with each seat, or from 0, or the new
    blocks are counted before it is asked how many there are.
    """
    found, start = [], 0
    for seat, more in MORE.items():
        first = (0 if restarted else start) + (len(OWNED[seat]) if behind else 0) + (more if counted else 0)
        found += [(seat, first + i) for i in range(more)]
        start += more
    return sorted(found)


@pytest.mark.exercise("9.3")
def test_new_blocks_go_behind_those_that_a_seat_has():
    """Behind the blocks that a seat has, as many as it is short of; nothing else in the tables changes."""
    seen = Extended(MORE, OWNED).changed
    right = places(restarted=True, behind=True)
    assert seen == right, (
        f"needed: {NEEDED}. In `tables` the entries [seat, place] {right} should be written; those that changed are "
        f"{seen}. "
        + likely(
            (seen == places(restarted=True, behind=False), "New ones go behind the blocks that a seat has: num_blocks"),
            (
                seen == places(restarted=False, behind=True),
                "The count goes on from seat to seat: for each it begins again, right behind the blocks that it has",
            ),
            (
                seen == places(restarted=False, behind=False),
                "The count goes on from seat to seat, and does not begin behind the blocks that a seat has",
            ),
            (
                seen == places(restarted=True, behind=True, counted=True),
                "num_blocks counted the new blocks already when their places were computed: raise it afterwards",
            ),
            (
                not seen,
                "Nothing was written: tables[seats] is a copy. Write with one index, tables[owner, place] = ...",
            ),
            (
                {seat for seat, _ in seen} == {0, 1, 2},
                "Those are the numbers of the rows, 0, 1 and 2; `seats` says which seats they have",
            ),
            (
                [seat for seat, _ in seen] == sorted(MORE),
                "Each seat got one block; seat 3 is to get 2, and seat 5 is to get 3",
            ),
            (
                any(place > max(MORE.values()) + len(OWNED[3]) for _, place in seen),
                "A place before the table's beginning is counted from its end: from the running number of a block take "
                "that of its seat's *first* new one",
            ),
        )
    )


@pytest.mark.exercise("9.3")
def test_the_blocks_that_were_taken_are_in_the_tables():
    """As many blocks are taken as are needed, and each of them is in one table."""
    extended = Extended(MORE, OWNED)
    assert len(extended.taken) == 6, f"2 + 1 + 3 blocks are needed, and {len(extended.taken)} were taken"
    new = [int(extended.seats.tables[place]) for place in places(restarted=True, behind=True)]
    assert sorted(new) == sorted(extended.taken), (
        f"the blocks {sorted(extended.taken)} were taken; the new ones in the tables are {sorted(new)}. Each goes to "
        "one place"
    )


@pytest.mark.exercise("9.3")
def test_num_blocks_counts_the_new_ones():
    """Each seat owns as many more as it has got."""
    seats = Extended(MORE, OWNED).seats
    seen = seats.num_blocks[[3, 0, 5]].tolist()
    assert seen == [4, 1, 4], (
        f"num_blocks of the seats 3, 0 and 5 was 2, 0 and 1, and they got 2, 1 and 3: should be 4, 1 and 4, seen "
        f"{seen}. "
        + likely(
            (seen == [2, 0, 1], "It is as before: the new blocks are not counted"),
            (seen == [2, 1, 3], "The new number is the old one and what was got"),
            (seen == [3, 1, 2], "`+=` with an index that is there several times adds once: use `seats` and `more`"),
        )
    )
    others = np.delete(seats.num_blocks, [3, 0, 5]).tolist()
    assert not any(others), f"the other five seats got nothing, and their num_blocks should be 0; seen {others}"


@pytest.mark.exercise("9.3")
def test_only_those_that_got_blocks_have_grown():
    """The packer writes the tables again that have grown, and only those. Seat 6 has grown before, in the same step."""
    seen = np.flatnonzero(Extended({3: 1, 1: 1}, {2: [0]}, grown=(6,)).seats.grown).tolist()
    assert seen == [1, 3, 6], (
        f"the seats 1 and 3 got blocks, and 6 was marked before: `grown` should be True for 1, 3 and 6; it is for "
        f"{seen}. "
        + likely(
            (6 not in seen, "What was marked before has to stay"),
            ({1, 3} - {*seen} != set(), "Mark the seats that got blocks, or the packer leaves out the new ones"),
            (len(seen) > 3, "Mark those that got blocks only"),
        )
    )


@pytest.mark.exercise("9.3")
def test_every_block_has_one_owner():
    """Over many random needs no block is in two tables, and none is lost."""
    random = np.random.default_rng(1)
    for _ in range(50):
        seats = random.permutation(6)[: random.integers(1, 7)].tolist()
        more = dict(zip(seats, random.integers(1, 4, len(seats)).tolist(), strict=True))
        extended = Extended(more, {})
        held = sorted(block for seat in range(6) for block in extended.table(seat))
        assert held == sorted(extended.taken), (
            f"new blocks by seat {more}: taken were {sorted(extended.taken)}; in the tables, up to num_blocks, are "
            f"{held}"
        )


@pytest.mark.exercise("9.3")
def test_blocks_without_a_loop():
    """For more rows Python runs no more lines."""

    def prepared(rows: int):
        scheduler, _ = scheduler_with(1, num_blocks=4 * rows)
        scheduler.seats, seats = many_seats(rows, num_blocks=1)
        return lambda: scheduler.extend_tables(seats, 1 + np.arange(rows) % 3)

    has_no_loop("extend_tables", prepared)


@pytest.mark.parametrize("kind", [ArrayBlocks, PrefixArrayBlocks])
def test_more_blocks_than_are_free_are_refused(kind: type[ArrayBlocks]):
    """With what was asked for and what there is, and nothing is taken."""
    blocks = kind(num_blocks=4, block_size=BLOCK_SIZE)
    with pytest.raises(RuntimeError, match="too few blocks: asked for 5, 4 free"):
        blocks.take(5)
    assert blocks.num_free_blocks == 4 and sorted(blocks.take(4).tolist()) == [0, 1, 2, 3]
