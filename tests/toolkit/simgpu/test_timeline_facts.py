"""What the simulator tells of a run beside its times: what spans touch, who waited for what, when races happen."""

import pytest
import torch

from toolkit import simgpu


@pytest.fixture
def streams():
    simgpu.reset("eager", on_race="collect")
    return simgpu.Stream(name="h2d"), simgpu.Stream(name="compute")


def io_buffers(batch=0):
    """A pinned tensor and its twin on the device, named for a batch."""
    host, there = torch.ones(4, pin_memory=True), torch.zeros(4, device="sim")
    simgpu.synchronize()
    name(host, there, batch)
    return host, there


def name(host, there, batch):
    for tensor in (host, there):
        simgpu.name_tensors({"ids": tensor}, f"the buffers of batch {batch}")


def copy_in(host, there, stream):
    with simgpu.stream(stream):
        there.copy_(host, non_blocking=True)
    return simgpu.spans()[-1]


def test_a_span_says_what_it_touches_and_from_which_line(streams):
    span = copy_in(*io_buffers(batch=3), streams[0])
    assert span.touched.reads == "pinned ids of the buffers of batch 3"
    assert span.touched.writes == "ids of the buffers of batch 3"
    assert span.touched.owner == "the buffers of batch 3"
    assert "test_timeline_facts.py" in str(span.site) and "there.copy_(host, non_blocking=True)" in str(span.site)


def test_memory_without_a_name_is_described(streams):
    x = torch.zeros(2, 3, device="sim")
    x + 1
    assert simgpu.spans()[-1].touched.reads == "(2, 3) float32"
    assert simgpu.spans()[-1].touched.buffers is None


def test_long_lists_are_cut(streams):
    x = torch.zeros(5, 2, device="sim")
    simgpu.name_tensors({letter: x[row] for row, letter in enumerate("abcde")}, "a batch")
    simgpu.launch("sum", lambda *rows: None, reads=list(x))
    assert simgpu.spans()[-1].touched.reads == "a, b, c and 2 more of a batch"


def test_io_buffers_keep_their_number_whatever_batch_they_are_for(streams):
    """Two sets in turns: the number says which memory it is, the owner says for which batch."""
    sets = io_buffers(0), io_buffers(1)
    seen = []
    for batch in range(4):
        name(*sets[batch % 2], batch)
        span = copy_in(*sets[batch % 2], streams[0])
        seen.append((span.touched.buffers, span.touched.owner))
    first, second = seen[0][0], seen[1][0]
    assert first != second
    assert seen == [
        (number, f"the buffers of batch {batch}") for batch, number in enumerate((first, second, first, second))
    ]


def test_memory_without_a_host_side_is_no_io_buffer(streams):
    cache = torch.zeros(4, device="sim")
    simgpu.name_tensors({"keys and values": cache}, "the KV cache")
    cache.add_(1)
    assert simgpu.spans()[-1].touched.buffers is None
    assert simgpu.spans()[-1].touched.writes == "keys and values of the KV cache"


def test_freed_memory_has_no_set(streams):
    """The next tensor at the same place is another one's."""
    _, there = io_buffers()
    del there
    x = torch.zeros(4, device="sim")
    x.add_(1)
    assert simgpu.spans()[-1].touched.buffers is None


def test_edges_lead_from_record_to_wait(streams):
    h2d, compute = streams
    host, there = io_buffers()
    copied, done = simgpu.Event(), simgpu.Event()
    copy = copy_in(host, there, h2d)
    copied.record(h2d)
    compute.wait_event(copied)
    with simgpu.stream(compute):
        there.add_(1)
    work = simgpu.spans()[-1]
    done.record(compute)
    done.synchronize()
    first, second = simgpu.edges()
    assert (first.first, first.second, second.first, second.second) == ("h2d", "compute", "compute", "host")
    assert first.first_ms == pytest.approx(copy.end)
    assert copy.end <= first.second_ms <= work.start
    assert second.first_ms == pytest.approx(work.end) and second.second_ms == pytest.approx(simgpu.now_ms())
    assert "copied.record(h2d)" in str(first.first_site) and "compute.wait_event(copied)" in str(first.second_site)


def test_waiting_for_what_was_never_recorded_is_no_edge(streams):
    streams[0].wait_event(simgpu.Event())
    assert simgpu.edges() == []


def test_waiting_for_a_stream_is_an_edge(streams):
    streams[1].wait_stream(streams[0])
    assert [(edge.first, edge.second) for edge in simgpu.edges()] == [("h2d", "compute")]


def test_edges_are_forgotten(streams):
    streams[1].wait_stream(streams[0])
    simgpu.forget()
    assert simgpu.edges() == []
    streams[1].wait_stream(streams[0])
    simgpu.reset()
    assert simgpu.edges() == []


@pytest.mark.parametrize("on_race", ["collect", "raise"])
def test_a_race_says_when_its_operations_run(on_race):
    """The second one has its place, too, where the error keeps it from being launched."""
    simgpu.reset("eager", on_race=on_race)
    h2d, compute = simgpu.Stream(name="h2d"), simgpu.Stream(name="compute")
    host, there = io_buffers()
    copy = copy_in(host, there, h2d)
    try:
        with simgpu.stream(compute):
            there.add_(1)
    except simgpu.RaceError:
        assert on_race == "raise"
    race, work = simgpu.races()[0], simgpu.spans()[-1]
    assert (race.first.start, race.first.end) == (copy.start, copy.end)
    assert (race.second.name, race.second.start, race.second.end) == (work.name, work.start, work.end)
    assert work.lane == "compute" and work.end > work.start


def test_the_hosts_part_of_a_race_takes_no_time(streams):
    host, there = io_buffers()
    copy_in(host, there, streams[0])
    now = simgpu.now_ms()
    host.fill_(2)
    second = simgpu.races()[0].second
    assert (second.lane, second.start, second.end) == ("host", now, now)
