"""The race detector: every access is checked against earlier ones of the same bytes.

Two accesses race if their bytes overlap, at least one writes, they come from different actors, and neither is ordered
before the other (see ordering.py). That is a property of the program, not of one run: a race is found even if the
numbers happened to be right, under every policy.
"""

from typing import NamedTuple

from toolkit.simgpu.errors import Party, Race
from toolkit.simgpu.memory import Footprint
from toolkit.simgpu.ordering import Actor


class Access(NamedTuple):
    """One read or write by a stream. The host's own are not kept: whatever comes later is launched after them."""

    footprint: Footprint
    actor: Actor
    number: int  # of the actor's operation
    party: Party


class Detector:
    """Keeps each block's history and compares.

    Args:
        host: the host's actor. What it knows to have happened can race with nothing that is issued later.
        run: number of the current run; history of earlier runs is dropped.
    """

    def __init__(self, host: Actor, run: int) -> None:
        self._host, self._run = host, run

    def check(self, footprint: Footprint, actor: Actor, party: Party) -> list[Race]:
        """The races between what `actor` does now and what others did; remembers the access."""
        block, region = footprint.block, footprint.region
        if block.run != self._run:
            block.run, block.history = self._run, []
        races, kept = [], []
        for old in block.history:
            ordered = actor.knows.get(old.actor, 0) >= old.number
            conflict = party.writes or old.party.writes
            if conflict and not ordered and old.actor is not actor and region.overlaps(old.footprint.region):
                races.append(_race(old, footprint, actor, party))
            past = self._host.knows.get(old.actor, 0) >= old.number
            if not past and not (old.actor is actor and _stands_for(footprint, party, old)):
                kept.append(old)
        if actor is not self._host and region.nbytes:
            kept.append(Access(footprint, actor, actor.knows[actor], party))
        block.history = kept
        return races


def _stands_for(footprint: Footprint, party: Party, old: Access) -> bool:
    """Does whatever races with an actor's `old` access also race with its new one?"""
    return (party.writes or not old.party.writes) and footprint.region.covers(old.footprint.region)


def _race(old: Access, footprint: Footprint, actor: Actor, party: Party) -> Race:
    first, second, kind = old.actor.name, actor.name, footprint.block.kind
    moved_on = old.footprint.generation != footprint.generation
    if party.lane == "host":
        edge = f"record an event on {first} after the first, and call event.synchronize() on the host before the second"
    else:
        edge = f"record an event on {first} after the first, and {second}.wait_event(it) before the second"
    if kind == "scratch":
        buffer = "memory that two graphs of one pool share"
        edge += "; or replay both on one stream"
    elif moved_on and kind == "graph pool":
        buffer = f"memory of a graph pool: a {old.footprint.label} and, for another graph, a {footprint.label}"
        edge += "; or allocate what others read outside the pool, before the capture"
    elif moved_on:
        buffer = f"the memory of a {old.footprint.label} that was freed and given to a new {footprint.label}"
        edge = (
            f"tensor.record_stream({first}) on the first one before it is freed, so that its memory waits for {first}; "
            f"or keep the tensor until {first} is done with it"
        )
    else:
        buffer = f"{footprint.label} ({kind})"
    early = actor.waited_for.get(old.actor)
    if early is not None and early.covers < old.number:
        edge += f"\n  ({second} did wait for an event of {first}, but for one recorded before the first: {early.site})"
    elif early is None and actor.waited_in_vain is not None:
        edge += f"\n  ({second} did wait for an event, but for one that was never recorded: {actor.waited_in_vain})"
    return Race(buffer, old.party, party, edge)
