"""Lanes and what joins them, whatever draws it: their order, their names, and from which bar to which a race goes."""

from dataclasses import dataclass, field, replace

from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import CLOSE, LANES, Edge, FoundRace, Span


def lanes_of(recording: Recording) -> list[str]:
    """All lanes of a recording, from top to bottom. A race is seen even where the host does nothing else."""
    racing = (each for race in recording.races for each in (race.first, race.second))
    return sorted({span.lane for span in (*recording.spans, *racing)}, key=lambda lane: (_place(lane), lane))


def lane_label(lane: str) -> str:
    return {"host": "host", "h2d": "copies in\n(h2d)", "compute": "compute", "d2h": "copies out\n(d2h)"}.get(lane, lane)


def bar_of(recording: Recording, operation: Span) -> Span:
    """The shortest span that the operation lies in; the operation itself if it lies in none."""
    middle = (operation.start + operation.end) / 2
    around = [each for each in recording.spans if each.lane == operation.lane and each.start <= middle <= each.end]
    return min(around, key=lambda each: each.end - each.start, default=operation)


def span_behind(recording: Recording, edge: Edge) -> Span | None:
    """The work that an edge stands for: the last span on its first lane that ends before it; None if there is none."""
    before = [each for each in recording.spans if each.lane == edge.first and each.end <= edge.start + CLOSE]
    return max(before, key=lambda each: each.end, default=None)


def span_after(recording: Recording, edge: Edge) -> Span | None:
    """The work that an edge holds back: the first span on its second lane that starts after it; None if none does."""
    after = [each for each in recording.spans if each.lane == edge.second and each.start >= edge.end - CLOSE]
    return min(after, key=lambda each: each.start, default=None)


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
    """The races, those between the same two bars together, in the order found."""
    bars: dict[tuple[str, float, float], Span] = {}
    found: dict[tuple[Span, Span], Joined] = {}
    for race in recording.races:
        operations = race.first, race.second
        for each in operations:
            if (place := _place_of(each)) not in bars:
                bar = bar_of(recording, each)
                bars[place] = replace(bar, start=each.start, end=each.end) if each.start == each.end else bar
        first, second = (bars[_place_of(each)] for each in operations)
        found.setdefault((first, second), Joined(first, second)).races.append(race)
    return list(found.values())


def edges_between(recording: Recording) -> list[Edge]:
    """The edges between two of the recording's lanes, each once."""
    lanes = set(lanes_of(recording))
    edges = dict.fromkeys(recording.edges)
    return [edge for edge in edges if edge.first != edge.second and {edge.first, edge.second} <= lanes]


def _place_of(operation: Span) -> tuple[str, float, float]:
    return operation.lane, operation.start, operation.end


def _place(lane: str) -> int:
    return LANES.index(lane) if lane in LANES else len(LANES)
