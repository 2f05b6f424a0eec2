"""What counts as a race, what does not, and what the report says."""

import copy
import pickle

import numpy as np
import pytest
import torch

from toolkit import simgpu


@pytest.fixture
def streams():
    return simgpu.Stream(name="a"), simgpu.Stream(name="b")


def on(stream, call, *args, **kwargs):
    with simgpu.stream(stream):
        return call(*args, **kwargs)


def device_zeros(*shape):
    x = torch.zeros(*shape, device="sim")
    simgpu.synchronize()
    return x


def test_two_reads_do_not_race(streams):
    a, b = streams
    x = device_zeros(4)
    on(a, torch.sum, x)
    on(b, torch.sum, x)


@pytest.mark.parametrize("first, second", [("write", "read"), ("read", "write"), ("write", "write")])
def test_a_write_and_anything_else_race(streams, first, second):
    x = device_zeros(4)
    do = {"read": lambda: x.sum(), "write": lambda: x.add_(1)}
    on(streams[0], do[first])
    with pytest.raises(simgpu.RaceError) as caught:
        on(streams[1], do[second])
    race = caught.value.race
    assert (race.first.writes, race.second.writes) == (first == "write", second == "write")
    assert (race.first.lane, race.second.lane) == ("a", "b")
    assert "(4,) float32" in race.buffer
    assert race.missing_edge == "record an event on a after the first, and b.wait_event(it) before the second"
    assert "test_race_detector.py:" in str(race.first.site) and "x.add_(1)" in str(race.first.site)


def test_an_event_orders(streams):
    a, b = streams
    x = device_zeros(4)
    on(a, x.add_, 1)
    b.wait_event(a.record_event())
    on(b, x.add_, 1)


def test_an_event_recorded_too_early_is_named(streams):
    a, b = streams
    x = device_zeros(4)
    event = a.record_event()  # too early
    on(a, x.add_, 1)
    b.wait_event(event)
    with pytest.raises(simgpu.RaceError, match="b did wait for an event of a, but for one recorded before") as caught:
        on(b, x.add_, 1)
    assert "# too early" in str(caught.value)


def test_the_host_orders_what_it_waited_for(streams):
    a, b = streams
    x = device_zeros(4)
    on(a, x.add_, 1)
    a.synchronize()
    on(b, x.add_, 1)


def test_order_goes_through_a_third_stream(streams):
    a, b = streams
    c = simgpu.Stream(name="c")
    x = device_zeros(4)
    on(a, x.add_, 1)
    c.wait_stream(a)
    b.wait_stream(c)
    on(b, x.add_, 1)


def test_a_query_that_said_yes_orders(streams):
    a, b = streams
    x = device_zeros(4)
    on(a, x.add_, 1)
    event = a.record_event()
    while not event.query():
        pass
    on(b, x.add_, 1)


@pytest.mark.parametrize(
    "left, right, meet",
    [
        (lambda x: x[:, :4], lambda x: x[:, 4:], False),
        (lambda x: x[:, :5], lambda x: x[:, 4:], True),
        (lambda x: x[::2], lambda x: x[1::2], False),
        (lambda x: x[::2, ::2], lambda x: x[::2, 1::2], False),
        (lambda x: x[:, ::2], lambda x: x[:, ::3], True),
        (lambda x: x.t()[:3], lambda x: x.t()[3:], False),
        (lambda x: x.diagonal(), lambda x: x[0, 1:], False),
        (lambda x: x.diagonal(), lambda x: x[3], True),
        (lambda x: x[2:2], lambda x: x, False),
        (lambda x: x.view(torch.int16)[:, 0], lambda x: x.view(torch.int16)[:, 1:], False),
        (lambda x: x[0].expand(3, 8), lambda x: x[0, 7:], True),
        (lambda x: x.view(2, 4, 8)[0], lambda x: x[4:], False),
    ],
)
def test_overlap_of_views_is_exact(streams, left, right, meet):
    x = device_zeros(8, 8)
    on(streams[0], lambda: left(x).sum())
    write = lambda: right(x).fill_(1)  # noqa: E731
    if meet:
        with pytest.raises(simgpu.RaceError):
            on(streams[1], write)
    else:
        on(streams[1], write)


def test_neighbouring_tensors_do_not_race(streams):
    x, y = device_zeros(4), device_zeros(4)
    on(streams[0], x.add_, 1)
    on(streams[1], y.add_, 1)


@pytest.mark.parametrize(
    "read",
    [
        lambda p: p.tolist(),
        lambda p: p[0].item(),
        lambda p: p + 1,
        lambda p: p.clone(),
        lambda p: torch.stack([p, p]),
        lambda p: repr(p),
        lambda p: torch.zeros(4).copy_(p),
        lambda p: bool(p[0] > 0),
        lambda p: p.long(),
        lambda p: p.view(2, 2)[1].max(),
        lambda p: p.fill_(1),
        lambda p: p.__setitem__(0, 1.0),
    ],
)
def test_the_host_touching_pinned_memory_in_flight_races(streams, read):
    p, x = torch.zeros(4, pin_memory=True), device_zeros(4)
    on(streams[0], p.copy_, x, non_blocking=True)
    with pytest.raises(simgpu.RaceError, match="event.synchronize"):
        read(p)
    streams[0].synchronize()
    read(p)


def test_the_host_may_read_what_a_copy_reads(streams):
    p, x = torch.zeros(4, pin_memory=True), device_zeros(4)
    on(streams[0], x.copy_, p, non_blocking=True)
    p.tolist()
    with pytest.raises(simgpu.RaceError):
        p.fill_(1)


def test_other_rows_of_a_pinned_buffer_are_free(streams):
    p, x = torch.zeros(2, 4, pin_memory=True), device_zeros(4)
    on(streams[0], p[0].copy_, x, non_blocking=True)
    p[1].fill_(1)
    with pytest.raises(simgpu.RaceError):
        p[0].fill_(1)


WAYS_TO_THE_BYTES = {
    "numpy": lambda t: t.numpy(),
    "numpy, forced": lambda t: t.numpy(force=True),
    "np.asarray": np.asarray,
    "np.add": lambda t: np.add(t, 1),
    "a slice of an array": lambda t: np.zeros(4).__setitem__(slice(None), t),
    "np.from_dlpack": np.from_dlpack,
    "torch.from_dlpack": torch.from_dlpack,
    "to_dlpack": torch.utils.dlpack.to_dlpack,
    "torch.to_dlpack": lambda t: torch.to_dlpack(t),
    "__dlpack__": lambda t: t.__dlpack__(),
    "Tensor.__dlpack__": torch.Tensor.__dlpack__,
    "__dlpack_device__": lambda t: t.__dlpack_device__(),
    "untyped_storage": lambda t: t.untyped_storage(),
    "storage": lambda t: t.storage(),
    "set_": lambda t: torch.empty(0).set_(t.untyped_storage(), 0, (4,)),
    "apply_": lambda t: t.apply_(lambda value: value + 1),
    "map_": lambda t: t.map_(torch.ones(4), lambda one, other: one),
    "memoryview": memoryview,
    "frombuffer": lambda t: torch.frombuffer(t, dtype=torch.float32),
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "share_memory_": lambda t: t.share_memory_(),
}


@pytest.mark.parametrize("way", WAYS_TO_THE_BYTES)
@pytest.mark.parametrize("view", [lambda t: t, lambda t: t[1:], lambda t: t.view(torch.int32)])
def test_every_way_to_the_bytes_of_pinned_memory_is_refused(way, view):
    """Whatever read or wrote them then, the detector would not see it."""
    with pytest.raises((NotImplementedError, TypeError, ValueError, RuntimeError)) as caught:
        WAYS_TO_THE_BYTES[way](view(torch.zeros(4, pin_memory=True)))
    assert len(str(caught.value)) < 200 and "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["np.from_dlpack", "torch.from_dlpack", "to_dlpack", "untyped_storage", "apply_"])
def test_the_bytes_of_device_memory_are_refused_too(way):
    with pytest.raises(NotImplementedError, match="escape the race detector; use .*cpu"):
        WAYS_TO_THE_BYTES[way](torch.zeros(4, device="sim"))


def test_ordinary_tensors_still_give_their_bytes():
    x = torch.arange(4.0)
    assert np.from_dlpack(x).tolist() == torch.from_dlpack(torch.utils.dlpack.to_dlpack(x)).tolist() == x.tolist()
    assert torch.ones(4, pin_memory=True).clone().numpy().tolist() == [1.0] * 4


def test_shared_memory_is_asked_about_without_a_storage():
    assert not torch.zeros(4, pin_memory=True).is_shared() and torch.zeros(4, device="sim").is_shared()


def test_an_elapsed_time_that_was_given_orders():
    a, x, host = simgpu.Stream(name="a"), device_zeros(4), torch.ones(4, pin_memory=True)
    start, end = (simgpu.Event(enable_timing=True) for _ in range(2))
    with simgpu.stream(a):
        start.record()
        host.copy_(x, non_blocking=True)
        end.record()
    with pytest.raises(RuntimeError, match="must be completed"):
        start.elapsed_time(end)
    with pytest.raises(simgpu.RaceError):
        host.tolist()
    simgpu.host_work(5.0)
    assert start.elapsed_time(end) > 0
    assert host.tolist() == [0.0] * 4


def test_elapsed_time_is_not_permitted_in_a_capture():
    start, end = (simgpu.Event(enable_timing=True) for _ in range(2))
    start.record()
    end.record()
    with pytest.raises(simgpu.CaptureError, match="elapsed_time"), simgpu.graph(simgpu.CUDAGraph()):
        start.elapsed_time(end)


def test_elapsed_time_raises_what_the_device_has_met():
    simgpu.reset("lazy")
    start, end = (simgpu.Event(enable_timing=True) for _ in range(2))
    start.record()
    simgpu.launch("fails", lambda: 1 / 0)
    end.record()
    simgpu.host_work(5.0)
    with pytest.raises(simgpu.DeviceError, match="ZeroDivisionError"):
        start.elapsed_time(end)


def test_collecting_races_goes_on(streams):
    simgpu.reset("eager", on_race="collect")
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    x = device_zeros(4)
    on(a, x.add_, 1)
    on(b, x.add_, 1)
    on(a, x.add_, 1)
    assert [(each.first.lane, each.second.lane) for each in simgpu.races()] == [("a", "b"), ("b", "a")]
    assert x.tolist() == [3.0] * 4


# --- memory that was freed -------------------------------------------------------------------------------------------


def test_memory_reused_while_another_stream_reads_it(streams):
    a, b = streams
    x = on(a, lambda: torch.ones(1000, device="sim"))
    b.wait_stream(a)
    on(b, torch.sum, x)
    del x
    with pytest.raises(simgpu.RaceError, match="freed and given to a new") as caught:
        on(a, lambda: torch.zeros(1000, device="sim"))
    assert "record_stream(b)" in str(caught.value)


def test_record_stream_of_the_own_stream_is_ignored(streams):
    """As by CUDA's allocator: the memory is reused at once by the stream that allocated it."""
    a, b = streams
    x = on(a, lambda: torch.ones(1000, device="sim"))
    address = x.data_ptr()
    b.wait_stream(a)
    on(b, torch.sum, x)
    x.record_stream(a)
    del x
    with pytest.raises(simgpu.RaceError, match="freed and given to a new"):
        on(a, lambda: torch.zeros(1000, device="sim"))
    assert on(a, lambda: torch.empty(1000, device="sim")).data_ptr() == address


RACES_OF_EMPTY = ["eager", "lazy", "threads", *(f"random:{seed}" for seed in range(10))]


@pytest.mark.parametrize("policy", RACES_OF_EMPTY)
def test_empty_writes_nothing_into_memory_that_is_still_read(policy):
    """Free, torch.empty, wait, write: right on CUDA, so right here, and without a report."""
    simgpu.reset(policy)
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    x = on(a, lambda: torch.ones(1000, device="sim"))
    b.wait_stream(a)
    total = on(b, torch.sum, x)
    address = x.data_ptr()
    del x
    y = on(a, lambda: torch.empty(1000, device="sim"))
    assert y.data_ptr() == address
    a.wait_stream(b)
    on(a, y.fill_, 3)
    assert on(b, total.item) == 1000.0 and on(a, lambda: y.sum().item()) == 3000.0


@pytest.mark.parametrize("policy", RACES_OF_EMPTY)
def test_empty_writes_nothing_into_what_another_stream_writes_first(policy):
    simgpu.reset(policy)
    x = torch.ones(1000, device="sim")
    simgpu.synchronize()
    del x
    y, s = torch.empty(1000, device="sim"), simgpu.Stream(name="s")
    on(s, y.fill_, 3)
    s.synchronize()
    simgpu.synchronize()
    assert y.tolist() == [3.0] * 1000


@pytest.mark.parametrize("policy", RACES_OF_EMPTY)
def test_half_of_a_reused_buffer_may_be_written_while_the_other_half_is_read(policy):
    simgpu.reset(policy)
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    x = on(a, lambda: torch.ones(1000, device="sim"))
    b.wait_stream(a)
    total = on(b, torch.sum, x[500:])
    del x
    y = on(a, lambda: torch.empty(1000, device="sim"))
    on(a, y[:500].fill_, 3)
    with pytest.raises(simgpu.RaceError, match="freed and given to a new"):
        on(a, y[500:501].fill_, 3)
    assert on(b, total.item) == 500.0


@pytest.mark.parametrize("policy", RACES_OF_EMPTY)
@pytest.mark.parametrize(
    "read",
    [
        lambda y: y.clone(),
        lambda y: y.view(10, 100).t()[::2],
        lambda y: y[:1].expand(7),
        lambda y: y.add_(1),
        lambda y: torch.cat([y, y]),
    ],
)
def test_what_is_read_of_reused_memory_before_it_is_written_is_garbage(policy, read):
    simgpu.reset(policy)
    x = torch.ones(1000, device="sim")
    del x
    y = torch.empty(1000, device="sim")
    assert read(y).isnan().all().item()


@pytest.mark.parametrize("policy", RACES_OF_EMPTY)
def test_only_what_was_not_written_is_garbage(policy):
    simgpu.reset(policy)
    x = torch.ones(8, device="sim")
    del x
    y = torch.empty(8, device="sim")
    y[2:4] = 5.0
    y[::4].fill_(6.0)
    assert torch.nan_to_num(y, -1).tolist() == [6.0, -1.0, 5.0, 5.0, 6.0, -1.0, -1.0, -1.0]
    y.fill_(7)
    assert y.tolist() == [7.0] * 8


def test_reading_garbage_does_not_disturb_who_still_reads_the_old_tensor():
    simgpu.reset("lazy")
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    x = on(a, lambda: torch.ones(1000, device="sim"))
    b.wait_stream(a)
    total = on(b, torch.sum, x)
    del x
    y = on(a, lambda: torch.empty(1000, device="sim"))
    garbage = on(a, torch.sum, y)
    a.synchronize()
    assert on(b, total.item) == 1000.0
    del garbage


def test_an_output_made_by_empty_is_garbage_until_the_graph_is_replayed():
    x = torch.ones(300, device="sim")
    del x
    y, graph = torch.empty(300, device="sim"), simgpu.CUDAGraph()
    with simgpu.graph(graph):
        y.fill_(2)
    assert y.isnan().all().item()
    graph.replay()
    assert y.tolist() == [2.0] * 300


@pytest.mark.parametrize("policy", ["eager", "lazy", "random:0"])
def test_record_stream_makes_reuse_safe(policy):
    simgpu.reset(policy)
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    x = on(a, lambda: torch.ones(1000, device="sim"))
    b.wait_stream(a)
    total = on(b, torch.sum, x)
    x.record_stream(b)
    del x
    on(a, lambda: torch.zeros(1000, device="sim"))
    b.synchronize()
    assert on(b, total.item) == 1000.0


def test_the_stale_numbers_of_reused_memory_are_real():
    simgpu.reset("lazy", on_race="collect")
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    x = on(a, lambda: torch.ones(1000, device="sim"))
    b.wait_stream(a)
    total = on(b, torch.sum, x)
    del x
    on(a, lambda: torch.full((1000,), 5.0, device="sim"))
    a.synchronize()
    assert on(b, total.item) == 5000.0
    assert len(simgpu.races()) == 1


def test_reuse_within_one_stream_is_no_race(streams):
    a, _ = streams
    for _ in range(3):
        x = on(a, lambda: torch.ones(1000, device="sim"))
        on(a, torch.sum, x)
        del x
