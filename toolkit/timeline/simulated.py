"""What the simulated GPU knows of a run, as a recording: every operation, and the edges and races between them."""

import re
from bisect import bisect_left
from collections import defaultdict
from dataclasses import replace
from typing import Any

from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import CLOSE, Edge, FoundRace, Span


def recording_of(simgpu: Any) -> Recording:  # noqa: ANN401 (the module, which is loaded where it is used)
    """Everything since its `reset`, operation by operation.

    Args:
        simgpu: the module `toolkit.simgpu`.
    """
    spans = tuple(_spans(simgpu))
    return Recording(spans, "simulated", simgpu.get_device_name(), edges=_edges(simgpu), races=_races(simgpu))


def with_details(simgpu: Any, recording: Recording) -> Recording:  # noqa: ANN401
    """A recording made meanwhile by a `Timeline`, and to it what the simulated GPU knows of the same stretch of time.

    Each of its spans takes buffers, memory and line from the operations that lie inside it. A span of the host belongs
    to the buffers of its step.
    """
    operations = list(_spans(simgpu))
    inside = _Inside(operations)
    spans = [inside.details(span) for span in recording.spans]
    of_step = {each.step: each.buffers for each in operations if each.step is not None}
    first = min((span.start for span in spans), default=0.0)
    return replace(
        recording,
        spans=tuple(
            replace(span, buffers=of_step.get(span.step)) if span.lane == "host" and span.step is not None else span
            for span in spans
        ),
        edges=tuple(edge for edge in _edges(simgpu) if edge.start >= first - CLOSE),
        races=tuple(race for race in _races(simgpu) if race.first.start >= first - CLOSE),
    )


class _Inside:
    """Operations by lane, to be looked up by time."""

    def __init__(self, operations: list[Span]) -> None:
        self._lanes: dict[str, list[Span]] = defaultdict(list)
        for each in sorted(operations, key=lambda each: each.start):
            self._lanes[each.lane].append(each)

    def details(self, span: Span) -> Span:
        lane = self._lanes[span.lane]
        first = bisect_left(lane, span.start - CLOSE, key=lambda each: each.start)
        last = bisect_left(lane, span.end, key=lambda each: each.start)
        found = [each for each in lane[first:last] if each.end <= span.end + CLOSE]
        if not found:
            return span
        memory = list(dict.fromkeys(each.memory for each in found if each.memory))
        more = f"; and {len(memory) - 1} more operations" if len(memory) > 1 else ""
        return replace(
            span,
            buffers=next((each.buffers for each in found if each.buffers is not None), None),
            memory=memory[0] + more if memory else "",
            line=next((each.line for each in found if each.line), ""),
        )


def _spans(simgpu: Any) -> Any:  # noqa: ANN401 (an iterator of spans)
    numbers: dict[int, int] = {}
    for each in simgpu.spans():
        memory, buffers, step = "", None, None
        if each.touched is not None:
            parts = (("reads", each.touched.reads), ("writes", each.touched.writes))
            memory = ", ".join(f"{verb} {what}" for verb, what in parts if what)
            if each.touched.buffers is not None:
                buffers = numbers.setdefault(each.touched.buffers, len(numbers))
            batch = re.search(r"\d+$", each.touched.owner)  # "the buffers of batch 3"
            step = int(batch[0]) if batch else None
        yield Span(each.name, each.lane, each.start / 1e3, each.end / 1e3, step, buffers, memory, _line(each.site))


def _edges(simgpu: Any) -> tuple[Edge, ...]:  # noqa: ANN401
    return tuple(
        Edge(
            each.first,
            each.second,
            each.first_ms / 1e3,
            each.second_ms / 1e3,
            _line(each.first_site),
            _line(each.second_site),
        )
        for each in simgpu.edges()
    )


def _races(simgpu: Any) -> tuple[FoundRace, ...]:  # noqa: ANN401
    return tuple(
        FoundRace(_operation(race.first), _operation(race.second), race.buffer, race.missing_edge, str(race))
        for race in simgpu.races()
    )


def _operation(party: Any) -> Span:  # noqa: ANN401 (one of its parties)
    return Span(party.name, party.lane, party.start / 1e3, party.end / 1e3, line=_line(party.site))


def _line(site: Any) -> str:  # noqa: ANN401 (a site, or None)
    """The line to look at first, and the one inside that it called, in one row."""
    return "" if site is None else str(site).replace("\n      inside:", ", inside:")
