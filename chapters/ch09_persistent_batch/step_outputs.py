"""What a step returns: arrays, and an output object for each request only if somebody asks for it.

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
class BatchOutputs(Sequence[RequestOutput]):
    """What one committed batch brought; as a sequence, an output object for each request.

    Attributes:
        rows: one for each request, in packed order.
        token_ids: (rows,) int64; the token of each.
        lengths: (rows,) int64; prompt and output with this token.
        special: index of the row -> the output of a request that has ended, or whose text was wanted.
    """

    rows: Rows
    token_ids: Array
    lengths: Array
    special: dict[int, RequestOutput]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, i: int) -> RequestOutput: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[RequestOutput]: ...
    def __getitem__(self, i: Any) -> Any:
        return [*self][i]

    def __iter__(self) -> Iterator[RequestOutput]:
        """For each row its `special` output, or else one with its token and nothing more."""
        raise NotImplementedError("ch09 exercise 7: Objects for those who look")


class StepOutputs(Sequence[RequestOutput]):
    """What a step returns.

    Attributes:
        kept: outputs that no batch has brought, such as those of requests that were cancelled.
        brought: of the batch that was committed, if there was one.
    """

    def __init__(self, kept: Sequence[RequestOutput], brought: Sequence[RequestOutput]) -> None:
        self.kept, self.brought = kept, brought

    @property
    def ended(self) -> list[RequestOutput]:
        """The last outputs alone, found without making the others."""
        special = self.brought.special.values() if isinstance(self.brought, BatchOutputs) else self.brought
        return [output for output in chain(self.kept, special) if output.finish_reason is not None]

    def __len__(self) -> int:
        return len(self.kept) + len(self.brought)

    @overload
    def __getitem__(self, i: int) -> RequestOutput: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[RequestOutput]: ...
    def __getitem__(self, i: Any) -> Any:
        return [*self][i]

    def __iter__(self) -> Iterator[RequestOutput]:
        return chain(self.kept, self.brought)

    def __eq__(self, other: object) -> bool:
        """Equal to a list of the same outputs, as chapter 8's engine returns it."""
        return [*self] == other

    __hash__ = None  # type: ignore[assignment]
