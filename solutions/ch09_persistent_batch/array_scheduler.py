"""The rules of chapters 2 and 7, asked for all requests at once.

Chapter 2 goes from request to request: how many tokens can it compute, how many blocks does it need, who has to go?
Each answer depends on those before, by the budget and the free blocks that are left. As array operations the budget is
a running sum, and blocks are counted for all together. If there are enough for all, which is nearly always so, all are
served at once. If not, the rows are halved until those are found for whom others have to go.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from ch02_continuous_batching import EngineConfig, Request, RequestStatus, Scheduler
from ch09_persistent_batch.array_blocks import ArrayBlocks
from ch09_persistent_batch.prefix_array_blocks import PrefixArrayBlocks
from ch09_persistent_batch.rows import Rows
from ch09_persistent_batch.seats import Array, SeatedRequest, Seats


class ArrayScheduler(Scheduler):
    """First come, first served, over seats. Takes the place of chapter 8's scheduler; `running` are those with a seat.

    Attributes:
        parts: the rows that the step being scheduled has so far.
        budget_left: tokens that the step can still take.
    """

    blocks: ArrayBlocks
    waiting: deque[SeatedRequest]  # type: ignore[assignment]

    def __init__(self, seats: Seats, blocks: ArrayBlocks, config: EngineConfig) -> None:
        self.seats, self.blocks = seats, blocks
        self.max_rows, self.token_budget, self.policy = config.max_rows, config.token_budget, config.policy
        self.waiting = deque()
        self.parts: list[Rows] = []
        self.budget_left = 0

    @property
    def running(self) -> list[Request]:  # type: ignore[override]
        """Those with a seat, in order of arrival; made when asked for."""
        running: list[Request] = self.seats.holders.tolist()
        return running

    def schedule(self) -> Rows:  # type: ignore[override]
        self.parts, self.budget_left = [], self.token_budget
        s, seats = self.seats, self.seats.order
        if self.policy == "fcfs":
            self.serve(seats)
            self.admit_waiting()
        else:
            in_prompt, epochs = s.known[seats] - s.computed[seats] > 1, s.epoch[seats]
            self.serve(seats[in_prompt])
            self.admit_waiting()
            self.serve(seats[~in_prompt & (s.epoch[seats] == epochs)])  # the others were preempted a moment ago
        return Rows.joined(self.parts) if self.parts else Rows.none(s)

    def wanted(self, seats: Array) -> Array:
        """How many tokens each of these seats has to compute, budget and blocks aside; (seats,) int64.

        0 for a seat whose request will have reached its limit with what is in flight: it ends there.
        """
        s = self.seats
        promised = s.promised[seats]
        return (promised - s.computed[seats]) * (promised < s.limit[seats])

    def within_budget(self, counts: Array) -> Array:
        """Cut these numbers of tokens, (seats,) int64, which are asked for in this order, to what `budget_left` allows.

        The last one served may get a part; those behind it get 0. Returns what each gets, (seats,) int64. `budget_left`
        itself is lowered by `take`.
        """
        # BEGIN SOLUTION 9.2
        return np.minimum(counts, np.maximum(self.budget_left - (counts.cumsum() - counts), 0))
        # END SOLUTION

    def serve(self, seats: Array) -> None:
        """A row for each of these seats that has tokens to compute, as far as budget and blocks reach.

        If there are blocks for all, one `take` serves them, with the array `rows` itself: by this very object the
        packer tells whether they are the last step's. Otherwise they are halved, down to a single one that lacks
        blocks, for which others have to go (`make_room_for`). `rows` may be empty.
        """
        if not len(seats):
            return
        counts = self.within_budget(self.wanted(seats))
        rows = seats
        if not counts.all():
            rows, counts = seats[counts > 0], counts[counts > 0]
        starts = self.seats.computed[rows]
        missing = self.blocks.missing(starts + counts, self.seats.num_blocks[rows])
        # BEGIN SOLUTION 9.4
        if missing.sum() <= self.blocks.num_free_blocks:
            self.take(rows, starts, counts, missing)
        elif len(rows) > 1:
            # A row that has to go for an early one may be in a later half: its columns are asked again when that comes.
            half = len(rows) // 2
            self.serve(rows[:half])
            self.serve(rows[half:])
        elif self.make_room_for(int(rows[0]), int(missing[0])):
            self.take(rows, starts, counts, missing)
        # END SOLUTION

    def take(self, seats: Array, starts: Array, counts: Array, missing: Array) -> None:
        """Give each of these seats its `missing` blocks, and note that `counts` tokens of it are on their way."""
        if not len(seats):
            return
        s = self.seats
        grow = missing.nonzero()[0]
        if len(grow):
            self.extend_tables(seats[grow], missing[grow])
        ends = starts + counts
        samples = ends == s.promised[seats]
        self.parts.append(Rows.of(s, seats, starts, counts, samples))
        s.computed[seats] = ends
        s.promised[seats] += samples
        self.budget_left -= int(counts.sum())

    def extend_tables(self, seats: Array, more: Array) -> None:
        """Append `more[i]` new blocks to the table of seats[i], for all at once; each gets at least one.

        `self.blocks.take(n)` returns n free blocks, (n,) int32; any of them may go to any seat. `tables`, `num_blocks`
        and `grown` say what the seats have got. `seats` and `more` are (seats,) int64, with no seat twice.
        """
        s = self.seats
        # BEGIN SOLUTION 9.3
        ends = more.cumsum()
        owner = np.repeat(seats, more)
        # Where in its table each new block goes: 0, 1, ... for each seat, counted from what it has.
        place = np.arange(ends[-1]) - np.repeat(ends - more - s.num_blocks[seats], more)
        s.tables[owner, place] = self.blocks.take(int(ends[-1]))
        s.num_blocks[seats] += more
        s.grown[seats] = True
        # END SOLUTION

    def make_room_for(self, seat: int, missing: int) -> bool:
        """Preempt the latest arrivals behind a seat that have no row in this step, as few as needed. True if enough."""
        s = self.seats
        scheduled = {seat for part in self.parts for seat in part.seats.tolist()}
        victims = [v for v in s.order.tolist() if s.arrival[v] > s.arrival[seat] and v not in scheduled]
        while missing > self.blocks.num_free_blocks and victims:
            self.preempt(s.requests[victims.pop()])
        return missing <= self.blocks.num_free_blocks

    def admit_waiting(self) -> None:
        """Let waiting requests in, in their order, while there are budget, seats and free blocks for them."""
        while self.waiting and self.seats.num_taken < self.max_rows and self.admit(self.waiting[0]):
            pass

    def admit(self, request: SeatedRequest) -> bool:
        """Let the next waiting request in and make its row, or return False if it has to wait on."""
        tokens = request.token_array()
        shared = self.blocks.share(request, tokens)
        start = len(shared) * self.blocks.block_size
        count = min(len(tokens) - start, self.budget_left)
        spare = self.blocks.num_free_blocks - (self.blocks.blocks_for(len(tokens)) - len(shared))
        if count == 0 or spare < self.seats.num_taken:
            self.blocks.give_back(np.array(shared, np.int32))
            return False
        self.waiting.popleft()
        request.status = RequestStatus.RUNNING
        seat = self.seats.join(request)
        self.seats.tables[seat, : len(shared)] = shared
        self.seats.num_blocks[seat], self.seats.computed[seat] = len(shared), start
        self.blocks.num_shared_tokens += start
        counts = np.array([count])
        missing = self.blocks.missing(start + counts, np.array([len(shared)]))
        self.take(np.array([seat]), np.array([start]), counts, missing)
        return True

    def preempt(self, request: SeatedRequest) -> None:  # type: ignore[override]
        self.blocks.give_back(self.seats.leave(request))
        request.status = RequestStatus.WAITING
        self.add(request)

    def finish(self, request: SeatedRequest) -> None:  # type: ignore[override]
        self.blocks.give_back(self.seats.leave(request))
        request.status = RequestStatus.FINISHED

    def written(self, rows: Rows) -> None:  # type: ignore[override]
        """These rows' keys and values are in the cache: the blocks that they have filled get their names."""
        if not isinstance(self.blocks, PrefixArrayBlocks):
            return
        s, size = self.seats, self.blocks.block_size
        first, full = rows.starts // size, rows.ends // size
        for i in ((first < full) & rows.alive).nonzero()[0].tolist():
            seat, count = rows.seats[i], int(full[i])
            self.blocks.mark_written(
                rows.requests[i], s.tokens[seat, : count * size], s.tables[seat, :count], int(first[i])
            )

    def restart(self, requests: Sequence[SeatedRequest]) -> None:  # type: ignore[override]
        """As in chapter 2: these are queued as each one's status says, with nothing computed."""
        self.seats.clear(requests)
        self.blocks.take_all_back()
        self.waiting = deque(request for request in requests if request.status is RequestStatus.WAITING)
        for request in requests:
            if request.status is RequestStatus.RUNNING:
                self.seats.join(request)
