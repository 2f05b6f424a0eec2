"""Seats: the running requests as columns of arrays.

A running request has a *seat*, an index that it keeps from its admission until it ends or is preempted. What the engine
knows of it is kept at this index in twenty numpy arrays, so that a step can ask and answer for all requests at once.

Three counts of tokens say where a request stands. They replace `pending_samples` and the lengths of lists:

    computed    keys and values are in the cache, or will be when the launched steps are done
    known       the host has them: prompt and committed output
    promised    known, and one more if a launched step is going to sample one

computed == promised - 1: it decodes. known < promised: its next input is in flight, and carried over on the device.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ch02_continuous_batching import Request

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class SeatedRequest(Request):
    """A request that may have a seat. While it has one, its tokens are in `Seats.tokens` and its blocks in
    `Seats.tables`; `output_ids` is brought up to date when it leaves, and `block_table` is not used.

    Attributes:
        seat: -1 while it waits and after its end.
        watched: whether its text is wanted with every token, so that each of them has to be looked at.
        latest_ms: when it was added, or got its latest token; see ArrayMetrics.
        names: of its full blocks, as far as they were needed; see PrefixArrayBlocks.
    """

    seat: int = -1
    watched: bool = False
    latest_ms: float = 0.0
    names: list[bytes] = field(default_factory=list, repr=False)

    def token_array(self) -> Array:
        """Prompt and output, (num_tokens,) int32, of a request without a seat."""
        return np.array(self.prompt_ids + self.output_ids, np.int32)


class Seats:
    """One entry for each running request.

    Args:
        max_rows: number of seats.
        max_length: tokens of a request at most. All seats have memory for so many: 4 * max_rows * max_length bytes.
        width: blocks of a request at most.

    Attributes:
        tokens: (max_rows, max_length) int32; prompt and output, up to `known`.
        tables: (max_rows, width) int32; the block table, up to `num_blocks`. What lies behind is of no meaning, but
            always a valid block number.
        computed, known, promised: (max_rows,) int64; see above. All are 0 in a free seat.
        limit: the length at which a request ends; 0 in a free seat.
        epoch: advances when a seat is left. A row whose epoch is not its seat's any more is of an earlier holder.
        arrival: of the request; decides who is served first.
        first: the length with the first new token.
        sampled_at: where the seat's token is among the sampled ids of the batch that was launched last.
        heeds_eos, watched: see SamplingParams.ignore_eos and SeatedRequest.
        grown: whether the block table has changed since it was last packed.
        requests: the SeatedRequest of each seat, or None.
    """

    def __init__(self, max_rows: int, max_length: int, width: int) -> None:
        def column(dtype: DTypeLike, *shape: int) -> Array:
            return np.zeros((max_rows, *shape), dtype)

        self.max_rows = max_rows
        self.tokens, self.tables = column(np.int32, max_length), column(np.int32, width)
        self.computed, self.known, self.promised, self.limit = (column(np.int64) for _ in range(4))
        self.num_blocks, self.arrival, self.epoch = (column(np.int64) for _ in range(3))
        self.first, self.sampled_at = column(np.int64), column(np.int64)
        self.temperature, self.top_p, self.top_k = column(np.float32), column(np.float32), column(np.int64)
        self.seed, self.latest_ms = column(np.uint64), column(np.float64)
        self.heeds_eos, self.watched, self.grown = (column(np.bool_) for _ in range(3))
        self.requests = column(np.object_)
        self.requests[:] = None
        self.free = list(reversed(range(max_rows)))
        self._order: Array | None = None
        self._holders: Array | None = None

    @property
    def num_taken(self) -> int:
        return self.max_rows - len(self.free)

    @property
    def order(self) -> Array:
        """The taken seats in order of arrival, int64. The same array as before, unless a request has joined or left."""
        if self._order is None:
            seats = np.flatnonzero(self.limit)
            self._order = seats[self.arrival[seats].argsort()]
        return self._order

    @property
    def holders(self) -> Array:
        """Who has these seats, (taken,) objects. The same array as before, as in `order`."""
        if self._holders is None:
            self._holders = self.requests[self.order]
        return self._holders

    def join(self, request: SeatedRequest) -> int:
        """Give a request a free seat, with nothing computed. Its `seat` is set last: until then it has none."""
        seat, params, tokens = self.free.pop(), request.params, request.token_array()
        self.tokens[seat, : len(tokens)] = tokens
        self.known[seat] = self.promised[seat] = len(tokens)
        self.first[seat] = len(request.prompt_ids) + 1
        self.limit[seat] = len(request.prompt_ids) + params.max_tokens
        self.arrival[seat], self.latest_ms[seat] = request.arrival, request.latest_ms
        self.temperature[seat], self.top_p[seat] = params.temperature, params.top_p
        self.top_k[seat], self.seed[seat] = params.top_k, params.seed
        self.heeds_eos[seat], self.watched[seat] = not params.ignore_eos, request.watched
        self.requests[seat] = request
        self._order = self._holders = None
        request.seat = seat
        return seat

    def save(self, request: SeatedRequest) -> None:
        """Bring the request's own fields up to date, and let it have no seat any more; the columns stay as they are."""
        seat = request.seat
        if seat >= 0:
            request.output_ids = self.tokens[seat, len(request.prompt_ids) : self.known[seat]].tolist()
            request.latest_ms = float(self.latest_ms[seat])
            request.seat = -1

    def leave(self, request: SeatedRequest) -> Array:
        """A request gives up its seat: see `save`. Another one may have it at once.

        The seat's counts (`computed`, `known`, `promised`, `limit`, `num_blocks`) become 0, which every step passes
        over. Rows of the request that are in flight must be dropped when they come, so the seat's epoch advances. Its
        rows of `tokens` and `tables` stay as they are: with counts of 0 they are of no meaning.

        Returns:
            the blocks that it had, in order of position, (num_blocks,) int32. They are the caller's to keep,
            whichever request has the seat next.
        """
        seat = request.seat
        self.save(request)
        self.requests[seat] = None
        self.free.append(seat)
        self._order = self._holders = None
        raise NotImplementedError("ch09 exercise 1: Leave a seat")

    def clear(self, requests: Iterable[SeatedRequest]) -> None:
        """Empty all seats, whatever state they are in; these requests are the ones that may have one."""
        for request in requests:
            self.save(request)
        for column in (self.computed, self.known, self.promised, self.limit, self.num_blocks):
            column[:] = 0
        self.epoch += 1
        self.requests[:] = None
        self.free = list(reversed(range(self.max_rows)))
        self._order = self._holders = None
