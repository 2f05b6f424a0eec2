"""Writes a recording as a Chrome trace, which https://ui.perfetto.dev opens: drop the file onto the page.

Format: the "Trace Event Format" of Chrome's about:tracing. Complete events ("ph": "X") carry a start and a length in
microseconds, metadata events ("ph": "M") name processes and threads.
"""

import json
from pathlib import Path
from typing import Any

from toolkit.files import write_whole
from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import LANES

HOST, DEVICE = 1, 2  # Perfetto draws a process per group of tracks; 0 would be taken for the swapper


def trace_events(recording: Recording) -> list[dict[str, Any]]:
    """The recording as trace events; time 0 is the earliest start."""
    origin = min((span.start for span in recording.spans), default=0.0)
    lanes = sorted({span.lane for span in recording.spans}, key=_place)
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
                "args": {} if span.step is None else {"step": span.step},
            }
        )
    return events


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


def _place(lane: str) -> tuple[int, str]:
    return (LANES.index(lane) if lane in LANES else len(LANES), lane)
