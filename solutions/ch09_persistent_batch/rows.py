"""The rows of a step as arrays: chapter 2's `Row`, for many at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np

from ch02_continuous_batching import Row
from ch09_persistent_batch.seats import Array, Seats


@dataclass(frozen=True, eq=False)
class Rows(Sequence[Row]):
    """Row i computes counts[i] tokens of the request in seats[i], from position starts[i] on.

    It never changes, as a batch in flight must not. As a sequence it yields `Row` objects, for observers that look at
    rows one by one; nothing in a step does.

    Attributes:
        columns: what the seats are of.
        seats, starts, counts: (rows,) int64.
        samples: (rows,) bool; see Row.
        epochs: (rows,) int64; of the seats, when the rows were scheduled.
        requests: (rows,) objects; who had the seats then.
    """

    columns: Seats
    seats: Array
    starts: Array
    counts: Array
    samples: Array
    epochs: Array
    requests: Array

    @classmethod
    def of(cls, columns: Seats, seats: Array, starts: Array, counts: Array, samples: Array) -> "Rows":
        """Rows of these seats, with who has them now."""
        requests = columns.holders if seats is columns.order else columns.requests[seats]
        return cls(columns, seats, starts, counts, samples, columns.epoch[seats], requests)

    @classmethod
    def none(cls, columns: Seats) -> "Rows":
        nothing = np.zeros(0, np.int64)
        return cls.of(columns, nothing, nothing, nothing, nothing.astype(np.bool_))

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """One after the other; there is at least one."""
        if len(parts) == 1:  # then with the very array of seats: the packer asks whether it is the last step's
            return parts[0]
        joined = (np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS)
        return cls(parts[0].columns, *joined)

    def chosen(self, which: Array) -> "Rows":
        """Some of the rows, by a mask or by indices."""
        return Rows(self.columns, *(getattr(self, name)[which] for name in ARRAYS))

    @property
    def ends(self) -> Array:
        """The position behind each row's last token."""
        ends: Array = self.starts + self.counts
        return ends

    @property
    def alive(self) -> Array:
        """Which rows still count, (rows,) bool: their seats have the epochs that they had when these were scheduled."""
        alive: Array = self.columns.epoch[self.seats] == self.epochs
        return alive

    def __len__(self) -> int:
        return len(self.seats)

    @overload
    def __getitem__(self, i: int) -> Row: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Row]: ...
    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [*self.chosen(np.arange(len(self))[i])]
        start, count = int(self.starts[i]), int(self.counts[i])
        return Row(self.requests[i], int(self.epochs[i]), start, count, bool(self.samples[i]))


ARRAYS = [field.name for field in fields(Rows) if field.name != "columns"]
