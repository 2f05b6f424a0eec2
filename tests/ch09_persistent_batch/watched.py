"""A scheduler that looks at what its `serve` asks for, so that a mistake is named where it is made."""

import pytest

from ch09_persistent_batch import ArrayScheduler
from ch09_persistent_batch.seats import Array
from tests.words import counted


class Watched(ArrayScheduler):
    """Notes the seats that each `serve` and each `take` is called with, and for whom others had to go.

    Attributes:
        served, taken: lists of seats, one for each call.
        rooms: the seats for which `make_room_for` was called.
        under_way: of each `serve` that has not returned its seats, and how often room had been made when it came.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.served: list[list[int]] = []
        self.taken: list[list[int]] = []
        self.rooms: list[int] = []
        self.under_way: list[tuple[list[int], int]] = []

    def serve(self, seats: Array) -> None:
        self.served.append(seats.tolist())
        call = seats.tolist(), len(self.rooms)
        if self.under_way[-1:] == [call]:
            pytest.fail(
                f"serve calls itself for the seats {call[0]} that it was called for, so it would never end: a single "
                "row cannot be halved, and others have to go for it"
            )
        self.under_way.append(call)
        try:
            super().serve(seats)
            self.under_way.pop()
        except IndexError:
            if self.within_budget(self.wanted(seats)).any():
                raise
            pytest.fail(
                f"serve was called for {counted(len(seats), 'seat')} without anything to compute, so `rows` is empty, "
                f"and there is no rows[0]. No block is missing, and {self.blocks.num_free_blocks} are free, which is "
                "enough: compare with `<=`, not `<`"
            )

    def take(self, seats: Array, starts: Array, counts: Array, missing: Array) -> None:
        self.taken.append(seats.tolist())
        lengths = [len(each) for each in (seats, starts, counts, missing)]
        assert len({*lengths}) == 1, (
            f"take was called with arrays of {lengths} entries (seats, starts, counts, missing): each should have one "
            "entry for each row"
        )
        gone = [seat for seat in seats.tolist() if self.seats.requests[seat] is None]
        assert not gone, (
            f"take was called for the seats {seats.tolist()}, of which {gone} have no holder any more: their requests "
            "had to go for an earlier row of this step. Let `serve` have the second half: it asks for everything again"
        )
        needed, free = int(missing.sum()), self.blocks.num_free_blocks
        assert needed <= free, (
            f"take was called for rows that lack blocks: missing are {needed}, and free are {free}. Take rows where "
            "there are blocks for all of them; the halves are asked again, each with `serve`, and a single row is "
            "taken when make_room_for has returned True"
        )
        super().take(seats, starts, counts, missing)

    def make_room_for(self, seat: int, missing: int) -> bool:
        self.rooms.append(seat)
        return super().make_room_for(seat, missing)
