"""The race detector: every access is checked against earlier ones of the same bytes.

Two accesses race if their bytes overlap, at least one writes, they come from different actors, and neither is ordered
before the other (see ordering.py). That is a property of the program, not of one run: a race is found even if the
numbers happened to be right, under every policy.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from toolkit.simgpu.blocks import Access, Footprint
from toolkit.simgpu.diagnosis import diagnose, diagnose_late
from toolkit.simgpu.errors import Party, Race
from toolkit.simgpu.names import label, shared_name
from toolkit.simgpu.ordering import Actor, Wait


class Detector:
    """Keeps each block's history and compares.

    Args:
        host: the host's actor. What it knows to have happened can race with nothing that is issued later.
        streams: all streams; the list may grow.
        run: number of the current run; history of earlier runs is dropped.

    Attributes:
        races: those found so far.
    """

    def __init__(self, host: Actor, streams: Sequence[Actor], run: int) -> None:
        self._host, self._streams, self._run = host, streams, run
        self.races: list[Race] = []
        # By the actor of the second operation and that of the first: the first one's number, and the place in `races`.
        self._unexplained: dict[tuple[Actor, Actor], list[tuple[int, int]]] = {}

    def check(self, touched: Sequence[tuple[Footprint, Party]], actor: Actor, when: int) -> list[Race]:
        """The races between an operation of `actor`, done now, and what others did; remembers them, and its accesses.

        Args:
            touched: what the operation touches, each with the party that it is there.
            when: its place in the program.
        """
        found = []
        for footprint, party in touched:
            for old in self._conflicts(footprint, actor, party, when):
                race = self._race(old, footprint, actor, party, touched)
                found.append(race)
                self.races.append(race)
        return found

    def _conflicts(self, footprint: Footprint, actor: Actor, party: Party, when: int) -> list[Access]:
        """The earlier accesses that race with a new one; the new one is remembered."""
        block, region = footprint.block, footprint.region
        if block.run != self._run:
            block.run, block.history = self._run, []
        conflicts, kept = [], []
        for old in block.history:
            ordered = actor.knows.get(old.actor, 0) >= old.number
            conflict = party.writes or old.party.writes
            if conflict and not ordered and old.actor is not actor and region.overlaps(old.footprint.region):
                conflicts.append(old)
            past = self._host.knows.get(old.actor, 0) >= old.number
            if not past and not (old.actor is actor and _stands_for(footprint, party, old)):
                kept.append(old)
        if actor is not self._host and region.nbytes:
            kept.append(Access(footprint, actor, actor.knows[actor], party, when, block.owner))
        block.history = kept
        return conflicts

    def is_in_use(self, actor: Actor) -> Callable[[Footprint], bool]:
        """Whether others may still use a tensor's bytes when `actor` comes to its last operation so far."""

        def ask(footprint: Footprint) -> bool:
            return any(
                actor.knows.get(old.actor, 0) < old.number and footprint.region.overlaps(old.footprint.region)
                for old in footprint.block.history
            )

        return ask

    def is_written(self, footprint: Footprint) -> bool:
        """Does the host know of all that streams write in a tensor's memory that it has happened?"""
        history = footprint.block.history
        return not any(old.party.writes and self._host.knows.get(old.actor, 0) < old.number for old in history)

    def explain_late(self, waiter: Actor, wait: Wait) -> None:
        """`waiter` waits, perhaps for what it needed earlier: then the races found meanwhile were for that reason."""
        if wait.record is None:
            return
        for number, place in self._unexplained.pop((waiter, wait.record.stream), []):
            if late := diagnose_late(number, waiter, wait):
                self.races[place] = replace(self.races[place], diagnosis=late)

    def _race(
        self, old: Access, footprint: Footprint, actor: Actor, party: Party, touched: Sequence[tuple[Footprint, Party]]
    ) -> Race:
        first, second, kind = old.actor.name, actor.name, footprint.block.kind
        moved_on = old.footprint.generation != footprint.generation
        diagnosis = ""
        wait = "call event.synchronize() on the host" if party.lane == "host" else f"{second}.wait_event(it)"
        edge = f"record an event on {first} after the first, and {wait} before the second"
        if kind == "scratch":
            buffer = "memory that two graphs of one pool share"
            edge += "; or replay both on one stream"
        elif moved_on and kind == "graph pool":
            buffer = f"memory of a graph pool: {label(old.footprint)} and, for another graph, {label(footprint)}"
            edge += "; or allocate what others read outside the pool, before the capture"
        elif moved_on:
            buffer = (
                f"the memory of {label(old.footprint)} that was freed and given to a new {footprint.description} buffer"
            )
            edge = (
                f"tensor.record_stream({first}) on the first one before it is freed, so that its memory waits for "
                f"{first}; or keep the tensor until {first} is done with it"
            )
        else:
            buffer = shared_name(old.footprint, footprint, old.owner)
            needed = partial(_is_needed, touched)
            diagnosis, is_cause = diagnose(old.actor, old.number, old.when, actor, self._streams, needed)
            if not is_cause:
                self._unexplained.setdefault((actor, old.actor), []).append((old.number, len(self.races)))
        return Race(buffer, old.party, party, edge, diagnosis)


def _stands_for(footprint: Footprint, party: Party, old: Access) -> bool:
    """Does whatever races with an actor's `old` access also race with its new one?"""
    return (party.writes or not old.party.writes) and footprint.region.covers(old.footprint.region)


def _is_needed(touched: Sequence[tuple[Footprint, Party]], wait: Wait) -> bool:
    """Does an operation that touches these bytes have to come after something that `wait` waits for?"""
    record = wait.record
    return record is not None and any(
        old.actor is record.stream
        and old.number <= record.covers
        and (party.writes or old.party.writes)
        and footprint.region.overlaps(old.footprint.region)
        for footprint, party in touched
        for old in footprint.block.history
    )
