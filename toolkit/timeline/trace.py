"""Writes a recording as a Chrome trace, which https://ui.perfetto.dev opens: drop the file onto the page.

Format: the "Trace Event Format" of Chrome's about:tracing. Complete events ("ph": "X") carry a start and a length in
microseconds, metadata events ("ph": "M") name processes and threads. Two flow events of one id ("ph": "s" and "f") are
an arrow from the slice that encloses the one to the slice that encloses the other; here, edges and races.
"""

import json
from pathlib import Path
from typing import Any

from toolkit.files import write_whole
from toolkit.timeline.lanes import edges_between, joined, lanes_of, span_after, span_behind
from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import Span

HOST, DEVICE = 1, 2  # Perfetto draws a process per group of tracks; 0 would be taken for the swapper


def trace_events(recording: Recording) -> list[dict[str, Any]]:
    """The recording as trace events; time 0 is the earliest start."""
    origin = min((span.start for span in recording.spans), default=0.0)
    lanes = lanes_of(recording)
    device = recording.device + (" (simulated clock)" if recording.clock == "simulated" else "")
    events = [_named("process", HOST, 0, "host"), _named("process", DEVICE, 0, f"device: {device}")]
    thread = {lane: (HOST if lane == "host" else DEVICE, number) for number, lane in enumerate(lanes, start=1)}
    events += [_named("thread", *thread[lane], lane) for lane in lanes]
    for span in recording.spans:
        pid, tid = thread[span.lane]
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "cat": span.lane,
                "pid": pid,
                "tid": tid,
                "ts": round((span.start - origin) * 1e6, 3),
                "dur": round((span.end - span.start) * 1e6, 3),
                "args": _details(span),
            }
        )
    return events + _flows(recording, thread, origin)


def export_chrome_trace(recording: Recording, path: Path | str) -> None:
    """Write the trace to `path`, whole or not at all."""
    trace = {
        "traceEvents": trace_events(recording),
        "displayTimeUnit": "ms",
        "otherData": {"device": recording.device, "clock": recording.clock},
    }
    write_whole(path, json.dumps(trace))


def _named(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": f"{kind}_name", "pid": pid, "tid": tid, "args": {"name": name}}


def _details(span: Span) -> dict[str, Any]:
    """What is known of the span beside its times."""
    facts = {"step": span.step, "IO buffers": span.buffers, "memory": span.memory or None, "line": span.line or None}
    return {name: value for name, value in facts.items() if value is not None}


def _flows(recording: Recording, thread: dict[str, tuple[int, int]], origin: float) -> list[dict[str, Any]]:
    """An arrow for each edge between two slices, and for each two slices that race."""
    arrows: list[tuple[str, str, Span | None, Span | None, dict[str, Any]]] = []
    for edge in edges_between(recording):
        facts = {"recorded": edge.recorded, "waited for": edge.waited}
        arrows.append(("edge", "event", span_behind(recording, edge), span_after(recording, edge), facts))
    for race in joined(recording):
        arrows.append(("race", "RACE", race.first, race.second, {"missing edge": race.races[0].missing}))
    events: list[dict[str, Any]] = []
    for number, (kind, name, first, second, facts) in enumerate(arrows, start=1):
        if first is None or second is None:
            continue
        last_inside = max(first.start, first.end - 1e-9)  # a slice does not enclose its end
        for phase, span, at in (("s", first, last_inside), ("f", second, second.start)):
            pid, tid = thread[span.lane]
            place = {"pid": pid, "tid": tid, "ts": round((at - origin) * 1e6, 3)}
            events.append({"ph": phase, "id": number, "name": name, "cat": kind, **place, "args": facts})
        events[-1]["bp"] = "e"  # ends at the slice that encloses it, not at the next one
    return events
