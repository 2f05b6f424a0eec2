"""The Chrome trace: what Perfetto needs to draw it."""

import json

import pytest

from toolkit.timeline import Recording, Span, export_chrome_trace

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
