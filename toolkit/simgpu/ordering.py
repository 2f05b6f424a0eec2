"""Who knows what has happened: vector clocks, one per stream and one for the host.

Every actor counts its own operations. `knows[other] = n` means: whatever this actor does next comes after the first `n`
operations of `other`, by an event, a synchronisation or a launch. An access number `n` of `other` is ordered before
what this actor does next exactly if `knows[other] >= n`; otherwise it may happen at the same time or later.
(Lamport 1978; the same idea is behind ThreadSanitizer and PyTorch's stream sanitizer.)
"""

from typing import NamedTuple

from toolkit.simgpu.sites import Site


class WaitedFor(NamedTuple):
    """The last event of some stream that an actor waited for, kept for the report of an event recorded too early."""

    site: Site  # where it was recorded
    covers: int  # how many operations of that stream it covers


class Actor:
    """The host or a stream: something whose operations happen in the order in which they were issued."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.knows: dict[Actor, int] = {}
        self.waited_for: dict[Actor, WaitedFor] = {}
        self.waited_in_vain: Site | None = None  # where it last waited for an event that was never recorded

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
