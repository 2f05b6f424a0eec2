"""A recording of the simulated GPU: its operations, edges and races as plain data."""

import pytest
import torch

from tests.simulated import needs_simulator
from toolkit import device
from toolkit.timeline import Recording
from toolkit.timeline.simulated import recording_of

pytestmark = needs_simulator


@pytest.fixture
def simgpu():
    from toolkit import simgpu

    simgpu.reset("eager", on_race="collect")
    return simgpu


def two_batches(simgpu, timeline=None):
    """Two batches through two sets of IO buffers: copied in, computed behind an event, read by the host too early."""
    h2d, compute = simgpu.Stream(name="h2d"), simgpu.Stream(name="compute")
    for batch in range(2):
        host, there = torch.ones(4, pin_memory=True), torch.zeros(4, device="sim")
        simgpu.synchronize()
        for tensor in (host, there):
            simgpu.name_tensors({"ids": tensor}, f"the buffers of batch {batch}")
        with simgpu.stream(h2d):
            with timeline.device("copy in", lane="h2d", step=batch):
                there.copy_(host, non_blocking=True)
            copied = h2d.record_event()
        with simgpu.stream(compute):
            compute.wait_event(copied)
            with timeline.device("forward", step=batch):
                there.add_(1)
                there.mul_(2)
        with timeline.host("commit", step=batch):
            host.fill_(0)


def test_every_operation_is_a_span(simgpu):
    two_batches(simgpu, device.new_timeline())
    recording = recording_of(simgpu)
    assert (recording.clock, recording.device) == ("simulated", "simulated GPU")
    copies = [span for span in recording.spans if span.name == "H2D copy"]
    assert [(span.step, span.buffers) for span in copies] == [(0, 0), (1, 1)]
    assert copies[1].memory == "reads pinned ids of the buffers of batch 1, writes ids of the buffers of batch 1"
    assert "there.copy_(host, non_blocking=True)" in copies[0].line
    times = [(each.start / 1e3, each.end / 1e3) for each in simgpu.spans() if each.name == "H2D copy"]
    assert [(span.start, span.end) for span in copies] == times


def test_a_timeline_gets_the_details(simgpu):
    """A span has the buffers, memory and line of the operations in it; the host's belong to their step's buffers."""
    timeline = device.new_timeline()
    two_batches(simgpu, timeline)
    recording = timeline.finish()
    names = [("copy in", "h2d"), ("forward", "compute"), ("commit", "host")]
    seen = {(span.name, span.lane, span.step): span.buffers for span in recording.spans}
    assert seen == {(name, lane, step): step for name, lane in names for step in range(2)}
    forward = next(span for span in recording.spans if span.name == "forward")
    assert forward.memory == "writes ids of the buffers of batch 0" and "there.add_(1)" in forward.line


def test_edges_and_races_are_on_the_same_clock(simgpu):
    timeline = device.new_timeline()
    two_batches(simgpu, timeline)
    recording = timeline.finish()
    spans = {(span.name, span.step): span for span in recording.spans}
    edges = [edge for edge in recording.edges if (edge.first, edge.second) == ("h2d", "compute")]
    assert [edge.start for edge in edges] == pytest.approx([spans["copy in", step].end for step in range(2)])
    assert "h2d.record_event()" in edges[0].recorded and "compute.wait_event(copied)" in edges[0].waited
    race = recording.races[0]
    assert (race.first.lane, race.second.lane) == ("h2d", "host")
    assert spans["copy in", 0].start <= race.first.start < race.first.end <= spans["copy in", 0].end + 1e-7
    assert spans["commit", 0].start <= race.second.start == race.second.end <= spans["commit", 0].end
    assert race.report == str(simgpu.races()[0]) and race.missing in race.report and race.memory in race.report


def test_what_was_before_the_timeline_is_left_out(simgpu):
    two_batches(simgpu, device.new_timeline())
    timeline = device.new_timeline()
    two_batches(simgpu, timeline)
    recording = timeline.finish()
    first = min(span.start for span in recording.spans)
    assert len(recording.races) == 2 < len(simgpu.races())
    assert all(race.first.start > first - 1e-6 for race in recording.races)
    edges = [edge for edge in recording.edges if edge.first == "h2d"]
    assert len(edges) == 2 and all(edge.start > first for edge in edges)


def test_saved_with_all_of_it(simgpu, tmp_path):
    timeline = device.new_timeline()
    two_batches(simgpu, timeline)
    recording = timeline.finish()
    recording.save(tmp_path / "a.json")
    assert recording.races and recording.edges
    assert Recording.load(tmp_path / "a.json") == recording
