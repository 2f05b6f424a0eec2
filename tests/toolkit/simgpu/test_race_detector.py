"""What counts as a race, what does not, and what the report says."""

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


def test_pinned_numpy_is_refused():
    with pytest.raises(NotImplementedError, match="numpy"):
        torch.zeros(4, pin_memory=True).numpy()


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
