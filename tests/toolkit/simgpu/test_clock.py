"""The virtual clock: engines, launches, host costs, and what the host lost by waiting."""

import pytest
import torch

from tests.toolkit.simgpu import pipeline
from toolkit import simgpu

COSTS = simgpu.Costs(launch_ms=0.0, call_ms=0.0, fixed={"H2D copy": 1.0, "mm": 2.0, "tanh_": 0.0, "D2H copy": 1.0})


def box(stream, ms, name="box"):
    with simgpu.stream(stream):
        simgpu.launch(name, lambda: None, cost_ms=ms)


def lanes():
    return [(span.name, span.lane, round(span.start, 6), round(span.end, 6)) for span in simgpu.spans()]


def test_one_compute_engine_takes_one_operation_at_a_time():
    simgpu.reset(costs=COSTS)
    box(simgpu.Stream(name="a"), 2.0)
    box(simgpu.Stream(name="b"), 3.0)
    assert lanes() == [("box", "a", 0.0, 2.0), ("box", "b", 2.0, 5.0)]


def test_the_copy_engines_and_the_compute_engine_overlap():
    simgpu.reset(costs=COSTS)
    x, host = torch.zeros(4, device="sim"), torch.zeros(4, pin_memory=True)
    y, back = torch.zeros(4, device="sim"), torch.zeros(4, pin_memory=True)
    simgpu.synchronize()
    start = simgpu.now_ms()
    with simgpu.stream(simgpu.Stream(name="h2d")):
        x.copy_(host, non_blocking=True)
    with simgpu.stream(simgpu.Stream(name="d2h")):
        back.copy_(y, non_blocking=True)
    box(simgpu.Stream(name="compute"), 2.0)
    assert [span.start for span in simgpu.spans()[-3:]] == [start] * 3


@pytest.mark.parametrize("pin_memory", [True, False], ids=["pinned", "pageable"])
def test_a_copys_bytes_cross_the_bus_once(pin_memory):
    """In both directions a copy takes the declared price of the bytes that it moves."""
    simgpu.reset(costs=simgpu.Costs(copy_ms=0.0, copy_bytes_per_ms=1000.0))
    x, host = torch.zeros(500, device="sim"), torch.zeros(500, pin_memory=pin_memory)
    x.copy_(host)
    host.copy_(x)
    taken = [span.end - span.start for span in simgpu.spans() if span.name in ("H2D copy", "D2H copy")]
    assert taken == pytest.approx([2.0, 2.0])


def test_work_that_is_ready_fills_an_engines_gap():
    simgpu.reset(costs=COSTS)
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    with simgpu.stream(a):
        simgpu.sleep(5.0)
    box(a, 1.0)
    box(b, 2.0)
    assert lanes()[-1] == ("box", "b", 0.0, 2.0), "b must not queue behind a's box, which starts at 5 ms"


def test_launches_and_host_work_take_the_hosts_time():
    simgpu.reset(costs=simgpu.Costs(launch_ms=0.5))
    box(simgpu.current_stream(), 0.1)
    simgpu.host_work(2.0, "schedule")
    box(simgpu.current_stream(), 0.1)
    assert simgpu.now_ms() == pytest.approx(3.0)
    assert ("schedule", "host", 0.5, 2.5) in lanes()
    assert lanes()[-1] == ("box", "default", 3.0, 3.1)


def test_events_carry_virtual_time_under_every_policy():
    for policy in ("eager", "lazy", "threads", "random:3"):
        simgpu.reset(policy, costs=COSTS)
        start, end = simgpu.Event(enable_timing=True), simgpu.Event(enable_timing=True)
        start.record()
        box(simgpu.current_stream(), 7.0)
        end.record()
        assert not end.query()
        end.synchronize()
        assert start.elapsed_time(end) == pytest.approx(7.0)


def test_overlap_and_needless_waiting_show_on_the_clock():
    """Eight batches of 1 + 2 + 1 ms: 18 ms overlapped; a host that waits after each step makes them 32 again."""

    def total(wait_always):
        batches, weights, _ = pipeline.example()
        simgpu.reset(costs=COSTS)
        weights = weights.to("sim")
        start = simgpu.now_ms()
        if wait_always:
            for batch in batches:
                pipeline.serve([batch], weights)
        else:
            pipeline.serve(batches, weights)
        return simgpu.now_ms() - start

    assert total(False) == pytest.approx(18.0)
    assert total(True) == pytest.approx(32.0)


def test_waiting_is_recorded_with_its_cost_and_its_line():
    simgpu.reset(costs=COSTS)
    box(simgpu.current_stream(), 4.0)
    torch.zeros(1, device="sim").item()  # the hidden one
    simgpu.current_stream().synchronize()
    hidden, asked = simgpu.synchronisations()
    assert (hidden.what, hidden.hidden) == ("item", True) and hidden.waited_ms > 4.0
    assert "the hidden one" in str(hidden.site)
    assert (asked.what, asked.hidden, asked.waited_ms) == ("Stream.synchronize", False, 0.0)
    assert any(span.name == "wait" and span.lane == "host" for span in simgpu.spans())


def test_the_clock_is_the_same_twice():
    batches, weights, _ = pipeline.example()

    def spans(policy):
        simgpu.reset(policy)
        pipeline.serve(batches, weights.to("sim"))
        return simgpu.spans()

    assert spans("eager") == spans("lazy") == spans("random:5") == spans("threads")
