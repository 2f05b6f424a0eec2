"""What a step returns: arrays, and an output object for each request only where one is asked for.

With 512 requests a step brings 512 tokens. An object for each of them takes longer than all the rest of the commit, and
most callers look at a few: those that have ended, or those of one client.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, overload

from ch02_continuous_batching import RequestOutput
from ch09_persistent_batch.rows import Rows
from ch09_persistent_batch.seats import Array


@dataclass(frozen=True, eq=False)
class StepOutputs(Sequence[RequestOutput]):
    """What a committed batch brought; as a sequence, an output object for each request.

    Attributes:
        rows: one for each request, in packed order.
        token_ids: (rows,) int64; the token of each.
        lengths: (rows,) int64; prompt and output with this token.
        special: index of the row -> the output of a request that has ended, or whose text was wanted.
        kept: outputs that no batch has brought, such as those of requests that were cancelled. They come first.
    """

    rows: Rows
    token_ids: Array
    lengths: Array
    special: dict[int, RequestOutput]
    kept: tuple[RequestOutput, ...] = ()

    @property
    def ended(self) -> list[RequestOutput]:
        """The last outputs alone, found without making the others."""
        return [output for output in chain(self.kept, self.special.values()) if output.finish_reason is not None]

    def one_by_one(self) -> Iterator[RequestOutput]:
        """For each row its `special` output, or else one with its token and nothing more. Without those in `kept`.

        `rows.requests` says whose row each is, (rows,) objects: the SeatedRequest that had the seat when the row was
        scheduled. The seat itself may have another holder by now, or none. Each output is made when it is asked for.
        """
        raise NotImplementedError("ch09 exercise 7: Objects for those who look")

    def __iter__(self) -> Iterator[RequestOutput]:
        return chain(self.kept, self.one_by_one())

    def __len__(self) -> int:
        return len(self.kept) + len(self.rows)

    @overload
    def __getitem__(self, i: int) -> RequestOutput: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[RequestOutput]: ...
    def __getitem__(self, i: Any) -> Any:
        return [*self][i]

    def __eq__(self, other: object) -> bool:
        """Equal to a list of the same outputs, as chapter 8's engine returns it."""
        return [*self] == other

    __hash__ = None  # type: ignore[assignment]
