"""The Chrome trace: what Perfetto needs to draw it."""

import json

import pytest

from toolkit.timeline import Edge, FoundRace, Recording, Span, export_chrome_trace

RECORDING = Recording(
    (
        Span("forward", "compute", 100.0015, 100.009, 7),
        Span("prepare", "host", 100.000, 100.0015, 7),
        Span("load", "h2d", 99.5, 99.9),
    ),
    clock="simulated",
    device="test device",
)


@pytest.fixture
def trace(tmp_path) -> dict:
    export_chrome_trace(RECORDING, tmp_path / "new" / "trace.json")
    return json.loads((tmp_path / "new" / "trace.json").read_text())


def complete(trace: dict) -> dict[str, dict]:
    return {event["name"]: event for event in trace["traceEvents"] if event["ph"] == "X"}


def test_times_are_microseconds_from_the_first_start(trace):
    """The first span starts at 0; lengths and distances are in microseconds."""
    events = complete(trace)
    assert (events["load"]["ts"], events["load"]["dur"]) == (0, pytest.approx(400_000))
    assert (events["forward"]["ts"], events["forward"]["dur"]) == (pytest.approx(501_500), pytest.approx(7_500))


def test_every_track_is_named(trace):
    """Host and device are processes, lanes are threads, each with its name; the host comes first."""
    names = {(e["name"], e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"}
    events = complete(trace)
    host, device = events["prepare"], events["forward"]
    assert names["process_name", host["pid"], 0] == "host"
    assert names["process_name", device["pid"], 0] == "device: test device (simulated clock)"
    assert names["thread_name", host["pid"], host["tid"]] == "host"
    assert names["thread_name", device["pid"], device["tid"]] == "compute"
    assert host["pid"] < device["pid"]


def test_steps_are_arguments(trace):
    """A span's step can be seen in its details; a span without a step has none."""
    events = complete(trace)
    assert events["forward"]["args"] == {"step": 7}
    assert events["load"]["args"] == {}


COPY, FORWARD = Span("copy in", "h2d", 0.001, 0.002, 0), Span("forward", "compute", 0.0015, 0.009, 0)
COMMIT = Span("commit", "host", 0.0095, 0.011, 0)


def flows(recording, tmp_path) -> list[dict]:
    export_chrome_trace(recording, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    return [event for event in events if event["ph"] in "sf"], [event for event in events if event["ph"] == "X"]


def slice_of(flow, slices):
    """The slice that encloses a flow event, as Perfetto looks for it."""
    around = [s for s in slices if (s["pid"], s["tid"]) == (flow["pid"], flow["tid"])]
    [found] = [s["name"] for s in around if s["ts"] <= flow["ts"] < s["ts"] + s["dur"]]
    return found


def test_edges_and_races_are_flow_arrows(tmp_path):
    """Each has two events of one id, a start and an end, and each of the two lies inside a slice."""
    race = FoundRace(COPY, FORWARD, "ids", "record an event", "RACE on ids")
    edges = (Edge("compute", "host", 0.009, 0.0095, "a.py:1", "a.py:2"), Edge("h2d", "compute", 0.0005, 0.0015))
    recording = Recording((COPY, FORWARD, COMMIT), "simulated", edges=edges, races=(race,))
    events, slices = flows(recording, tmp_path)
    pairs = {}
    for event in events:
        pairs.setdefault(event["id"], []).append(event)
    assert all([event["ph"] for event in pair] == ["s", "f"] for pair in pairs.values())
    seen = [(pair[0]["cat"], *(slice_of(event, slices) for event in pair)) for pair in pairs.values()]
    assert seen == [("edge", "forward", "commit"), ("race", "copy in", "forward")]
    for first, last in pairs.values():
        assert (first["name"], first["cat"]) == (last["name"], last["cat"]) and last["bp"] == "e"
    assert pairs[events[0]["id"]][0]["args"] == {"recorded": "a.py:1", "waited for": "a.py:2"}
    assert events[-1]["args"] == {"missing edge": "record an event"}


def test_details_are_arguments(tmp_path):
    span = Span("copy in", "h2d", 0, 1, 3, 1, "writes ids", "a.py:7")
    _, [event] = flows(Recording((span,)), tmp_path)
    assert event["args"] == {"step": 3, "IO buffers": 1, "memory": "writes ids", "line": "a.py:7"}
