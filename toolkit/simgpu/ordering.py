"""Who knows what has happened: vector clocks, one per stream and one for the host.

Every actor counts its own operations. `knows[other] = n` means: whatever this actor does next comes after the first `n`
operations of `other`, by an event, a synchronisation or a launch. An access number `n` of `other` is ordered before
what this actor does next exactly if `knows[other] >= n`; otherwise it may happen at the same time or later.
(Lamport 1978; the same idea is behind ThreadSanitizer and PyTorch's stream sanitizer.)

Records and waits are remembered too: they decide nothing, but say why an order is missing (see diagnosis.py).
"""

from collections import deque
from typing import NamedTuple

from toolkit.simgpu.sites import Site


class Record(NamedTuple):
    """A point in a stream's queue that others can wait for.

    Attributes:
        stream: on which it is.
        event: the number of the event that was recorded there; None for a wait_stream.
        covers: how many operations of the stream come before it.
        before: how many of them an earlier event covers already.
        when: the record's place in the program.
        last_work: the place of the stream's last operation before it.
        site: the line that recorded it.
        ms: when it is passed, on the virtual clock.
    """

    stream: "Actor"
    event: int | None
    covers: int
    before: int
    when: int
    last_work: int
    site: Site
    ms: float

    def is_first_behind(self, number: int) -> bool:
        """Is this the event recorded next behind operation `number` of its stream?"""
        return self.before < number <= self.covers


class Wait(NamedTuple):
    """An actor waited for an event, or a stream.

    Attributes:
        record: what for; None if the event was never recorded.
        event: its number; None for a wait_stream.
        when: the wait's place in the program.
        site: the line that waits.
    """

    record: Record | None
    event: int | None
    when: int
    site: Site


class Actor:
    """The host or a stream: something whose operations happen in the order in which they were issued.

    Attributes:
        knows: what comes before its next operation.
        last_work: the place in the program of its last operation; 0 before the first.
        records: the events recorded on it that cover an operation the host does not know to have happened; oldest
            first. Events that measure time are left out: no work is meant to wait for them.
        waits: its last wait for each stream; for None, its last wait for an event that was never recorded.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.knows: dict[Actor, int] = {}
        self.last_work = 0
        self.records: deque[Record] = deque()
        self._covered = (0, 0)  # by the last event, and by the last one before it that covered less
        self.waits: dict[Actor | None, Wait] = {}

    def count_operation(self) -> int:
        """Number the next operation of this actor, from 1."""
        number = self.knows.get(self, 0) + 1
        self.knows[self] = number
        return number

    def learn(self, knows: "dict[Actor, int]") -> None:
        """From now on this actor comes after everything in `knows`."""
        mine = self.knows
        for actor, number in knows.items():
            if mine.get(actor, 0) < number:
                mine[actor] = number

    def make_record(self, event: int | None, when: int, site: Site, ms: float) -> Record:
        """The point behind all operations so far, passed at `ms`."""
        covers, (last, earlier) = self.knows.get(self, 0), self._covered
        return Record(self, event, covers, last if last < covers else earlier, when, self.last_work, site, ms)

    def keep(self, record: Record, past: int) -> None:
        """Remember an event's record on this actor, and forget those of its first `past` operations."""
        if record.covers > self._covered[0]:
            self._covered = record.covers, self._covered[0]
        while self.records and self.records[0].covers <= past:
            self.records.popleft()
        self.records.append(record)

    def record_behind(self, number: int) -> Record | None:
        """The event that was recorded next behind operation `number` of this actor."""
        return next((each for each in self.records if each.covers >= number), None)
