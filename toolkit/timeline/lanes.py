"""Lanes and what joins them, whatever draws it: their order, their names, and from which bar to which a race goes."""

from dataclasses import dataclass, field, replace

from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import LANES, Edge, FoundRace, Span


def lanes_of(recording: Recording) -> list[str]:
    """All lanes of a recording, from top to bottom."""
    return sorted({span.lane for span in recording.spans}, key=lambda lane: (_place(lane), lane))


def lane_label(lane: str) -> str:
    return {"host": "host", "h2d": "copies in\n(h2d)", "compute": "compute", "d2h": "copies out\n(d2h)"}.get(lane, lane)


def bar_of(recording: Recording, operation: Span) -> Span:
    """The shortest span that the operation lies in; the operation itself if it lies in none."""
    middle = (operation.start + operation.end) / 2
    around = [each for each in recording.spans if each.lane == operation.lane and each.start <= middle <= each.end]
    return min(around, key=lambda each: each.end - each.start, default=operation)


@dataclass
class Joined:
    """Two bars, and the races between the operations in them.

    Attributes:
        first, second: the bars. The host's bar is cut to the moment at which it does its part.
    """

    first: Span
    second: Span
    races: list[FoundRace] = field(default_factory=list)

    @property
    def lanes(self) -> tuple[str, str]:
        return self.first.lane, self.second.lane

    def is_within(self, first: int, last: int) -> bool:
        """Do both bars belong to these steps, as far as that is known?"""
        return all(bar.step is None or first <= bar.step <= last for bar in (self.first, self.second))


def joined(recording: Recording) -> list[Joined]:
    """The races, those between the same two bars together, in the order found. Lanes must be the recording's."""
    lanes = {span.lane for span in recording.spans}
    bars: dict[tuple[str, float, float], Span] = {}
    found: dict[tuple[Span, Span], Joined] = {}
    for race in recording.races:
        operations = race.first, race.second
        if not {each.lane for each in operations} <= lanes:
            continue
        for each in operations:
            if (place := _place_of(each)) not in bars:
                bar = bar_of(recording, each)
                bars[place] = replace(bar, start=each.start, end=each.end) if each.start == each.end else bar
        first, second = (bars[_place_of(each)] for each in operations)
        found.setdefault((first, second), Joined(first, second)).races.append(race)
    return list(found.values())


def edges_between(recording: Recording) -> list[Edge]:
    """The edges between two of the recording's lanes, each once."""
    lanes = {span.lane for span in recording.spans}
    edges = dict.fromkeys(recording.edges)
    return [edge for edge in edges if edge.first != edge.second and {edge.first, edge.second} <= lanes]


def _place_of(operation: Span) -> tuple[str, float, float]:
    return operation.lane, operation.start, operation.end


def _place(lane: str) -> int:
    return LANES.index(lane) if lane in LANES else len(LANES)
