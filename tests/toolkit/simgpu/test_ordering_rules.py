"""CUDA's ordering rules, one test each, on the accelerator at hand: the simulated GPU under every policy, or a real
one.

Nothing here is written for the simulator. `sleep` keeps the device busy, so that whatever does not wait for it is
seen not to. docs/simulator.md lists the rules with their sources; a test checks that the list is complete.
"""

import pytest
import torch

from toolkit.captures import clean_capture
from toolkit.device import DEVICE, accelerator, host_work, new_stream, sleep

BUSY_MS = 40.0 if DEVICE == "cuda" else 10.0
pytestmark = [pytest.mark.usefixtures("policy"), pytest.mark.both]


@pytest.fixture(autouse=True)
def warm(policy):
    """On CUDA the first use of a kernel loads it and waits for the device: use each one once before."""
    x = torch.zeros(4, device=DEVICE)
    x.add_(1).mul_(2).fill_(0)
    host = torch.empty(4, pin_memory=True)
    x.copy_(host)
    host.copy_(x)
    (x > 0).nonzero()
    x[x > 0].sum().item()
    sleep(0.1)
    accelerator.synchronize()


def busy(stream):
    """Keep `stream` busy; returns an event behind that work."""
    with accelerator.stream(stream):
        sleep(BUSY_MS)
    return stream.record_event()


def filled(value, n=4):
    x = torch.full((n,), float(value), device=DEVICE)
    accelerator.synchronize()
    return x


def pinned(value, n=4):
    return torch.full((n,), float(value)).pin_memory()


# --- streams ---------------------------------------------------------------------------------------------------------


def test_work_on_one_stream_runs_in_order():
    x, stream = filled(0), new_stream("a")
    with accelerator.stream(stream):
        sleep(1)
        x.fill_(1)
        x.add_(1)
        x.mul_(3)
    stream.synchronize()
    assert x.tolist() == [6.0] * 4


def test_a_launch_returns_before_the_work_is_done():
    assert not busy(new_stream("a")).query()


def test_streams_do_not_wait_for_each_other():
    slow = busy(new_stream("a"))
    other = new_stream("b")
    x = filled_on(other)
    other.synchronize()
    assert not slow.query(), "synchronising b waited for a"
    del x


def filled_on(stream):
    with accelerator.stream(stream):
        return torch.zeros(4, device=DEVICE).add_(1)


def test_other_streams_do_not_wait_for_the_default_stream():
    slow = busy(accelerator.default_stream())
    other = new_stream("a")
    filled_on(other)
    other.synchronize()
    assert not slow.query()


def test_the_default_stream_does_not_wait_for_other_streams():
    slow = busy(new_stream("a"))
    done = filled_on(accelerator.default_stream())
    accelerator.default_stream().synchronize()
    assert not slow.query()
    del done


def test_a_stream_context_ends_with_the_block_and_nests():
    a, b = new_stream("a"), new_stream("b")
    before = accelerator.current_stream()
    with accelerator.stream(a):
        with accelerator.stream(b):
            assert accelerator.current_stream() == b
        assert accelerator.current_stream() == a
        with accelerator.stream(None):
            assert accelerator.current_stream() == a
    assert accelerator.current_stream() == before


# --- events ----------------------------------------------------------------------------------------------------------


def test_wait_event_makes_later_work_wait():
    x, y = filled(0), filled(0)
    a, b = new_stream("a"), new_stream("b")
    busy(a)
    with accelerator.stream(a):
        x.fill_(7)
        done = a.record_event()
    with accelerator.stream(b):
        b.wait_event(done)
        y.copy_(x)
    b.synchronize()
    assert y.tolist() == [7.0] * 4


def test_event_wait_is_wait_event():
    x, y = filled(0), filled(0)
    a, b = new_stream("a"), new_stream("b")
    busy(a)
    with accelerator.stream(a):
        x.fill_(7)
        done = accelerator.Event()
        done.record()
    with accelerator.stream(b):
        done.wait()
        y.copy_(x)
    b.synchronize()
    assert y.tolist() == [7.0] * 4


def test_wait_event_does_not_make_the_host_wait():
    slow = busy(new_stream("a"))
    new_stream("b").wait_event(slow)
    assert not slow.query()


def test_wait_event_means_the_last_record_before_it():
    a, b = new_stream("a"), new_stream("b")
    event = a.record_event()
    b.wait_event(event)
    busy(a)
    event.record(a)
    b.synchronize()
    assert not event.query(), "b waited for a record made after its wait_event"


def test_an_event_covers_only_the_work_before_it():
    a = new_stream("a")
    early = a.record_event()
    late = busy(a)
    early.synchronize()
    assert not late.query()


def test_an_event_recorded_again_forgets_the_first_record():
    a = new_stream("a")
    event = a.record_event()
    event.synchronize()
    busy(a)
    event.record(a)
    assert not event.query()


def test_an_event_never_recorded_holds_nothing_up():
    event = accelerator.Event()
    new_stream("a").wait_event(event)
    event.synchronize()
    assert event.query()


def test_wait_stream_covers_what_was_queued_before_it():
    x, y = filled(0), filled(0)
    a, b = new_stream("a"), new_stream("b")
    busy(a)
    with accelerator.stream(a):
        x.fill_(7)
    b.wait_stream(a)
    late = busy(a)
    with accelerator.stream(b):
        y.copy_(x)
    b.synchronize()
    assert not late.query(), "b waited for work queued after wait_stream"
    assert y.tolist() == [7.0] * 4


def test_waiting_is_transitive():
    x, y = filled(0), filled(0)
    a, b, c = new_stream("a"), new_stream("b"), new_stream("c")
    busy(a)
    with accelerator.stream(a):
        x.fill_(7)
    b.wait_stream(a)
    c.wait_stream(b)
    with accelerator.stream(c):
        y.copy_(x)
    c.synchronize()
    assert y.tolist() == [7.0] * 4


def test_event_query_follows_the_work():
    event = busy(new_stream("a"))
    assert not event.query()
    while not event.query():
        pass
    assert event.query()


def test_elapsed_time_is_the_time_between_two_events():
    a = new_stream("a")
    start, end = accelerator.Event(enable_timing=True), accelerator.Event(enable_timing=True)
    with accelerator.stream(a):
        start.record()
        sleep(BUSY_MS)
        end.record()
    end.synchronize()
    assert 0.5 * BUSY_MS < start.elapsed_time(end) < 3 * BUSY_MS


def test_elapsed_time_needs_timing_events_that_have_passed():
    a = new_stream("a")
    plain = a.record_event()
    a.synchronize()
    with pytest.raises((ValueError, RuntimeError)):
        plain.elapsed_time(plain)
    start, end = accelerator.Event(enable_timing=True), accelerator.Event(enable_timing=True)
    start.record(a)
    busy(a)
    end.record(a)
    with pytest.raises(RuntimeError, match="must be completed"):
        start.elapsed_time(end)


def test_elapsed_time_says_that_both_events_have_passed():
    a, x, host = new_stream("a"), filled(1), pinned(0)
    start, end = accelerator.Event(enable_timing=True), accelerator.Event(enable_timing=True)
    with accelerator.stream(a):
        start.record()
        sleep(BUSY_MS)
        host.copy_(x, non_blocking=True)
        end.record()
    while True:
        try:
            assert start.elapsed_time(end) > 0.5 * BUSY_MS
            break
        except RuntimeError:  # not yet
            host_work(1.0)
    assert host.tolist() == [1.0] * 4


# --- the host waits --------------------------------------------------------------------------------------------------


def test_stream_synchronize_waits_for_that_stream():
    a = new_stream("a")
    slow = busy(a)
    a.synchronize()
    assert slow.query() and a.query()


def test_device_synchronize_waits_for_all_streams():
    slow = [busy(new_stream(name)) for name in "abc"]
    accelerator.synchronize()
    assert all(each.query() for each in slow)


# The value of each entry makes the host wait for the current stream.
HIDDEN = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "bool": lambda x: bool(x[0] > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "boolean index": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "torch.tensor on the device": lambda x: torch.tensor([1.0, 2.0], device=DEVICE),
    "blocking copy to the device": lambda x: x.copy_(torch.ones(4)),
    "blocking copy to the device, pinned": lambda x: x.copy_(pinned(1)),
    "blocking copy to the host": lambda x: torch.empty(4).copy_(x),
    "blocking copy to the host, pinned": lambda x: pinned(0).copy_(x),
    "masked write of a device value": lambda x: x.index_put_((x > 0,), torch.zeros((), device=DEVICE)),
    "torch.equal": lambda x: torch.equal(x, x.clone()),
}


@pytest.mark.parametrize("call", HIDDEN)
def test_hidden_synchronisations_wait_for_the_current_stream(call):
    x, stream = filled(1), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        HIDDEN[call](x)
    assert slow.query(), f"{call} did not wait"


def test_hidden_synchronisations_do_not_wait_for_other_streams():
    x = filled(1)
    slow = busy(new_stream("a"))
    x.sum().item()
    assert not slow.query()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.fill_(3),
        lambda x: torch.full((4,), 2.0, device=DEVICE),
        lambda x: torch.arange(4, device=DEVICE),
        lambda x: x.masked_fill_(x > 0, 0.0),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: x.index_put_((torch.zeros_like(x, dtype=torch.bool),), torch.tensor(0.0)),
        lambda x: x[1:].copy_(x[:-1].clone()),
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.equal(x, x),  # the same memory: there is nothing to compare
    ],
)
def test_ordinary_operations_do_not_wait(call):
    x, stream = filled(1), new_stream("a")
    call(x)  # on CUDA the first use of a kernel loads it, and waits
    accelerator.synchronize()
    slow = busy(stream)
    with accelerator.stream(stream):
        call(x)
    assert not slow.query()


# --- copies ----------------------------------------------------------------------------------------------------------

BIG = 4 * 1024 * 1024  # floats: 16 MiB


def test_pinned_copy_to_the_device_does_not_wait():
    x, host, stream = filled(0, BIG), pinned(1, BIG), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        x.copy_(host, non_blocking=True)
    assert not slow.query()
    stream.synchronize()
    assert x[-1].item() == 1


def test_pinned_copy_to_the_host_does_not_wait():
    x, host, stream = filled(1, BIG), pinned(0, BIG), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        host.copy_(x, non_blocking=True)
    assert not slow.query()
    stream.synchronize()
    assert host[-1].item() == 1


def test_small_pageable_copy_to_the_device_is_staged_and_does_not_wait():
    x, host, stream = filled(0), torch.ones(4), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        x.copy_(host, non_blocking=True)
    host.fill_(5)  # allowed at once: the copy has taken its values
    assert not slow.query()
    stream.synchronize()
    assert x.tolist() == [1.0] * 4


def test_large_pageable_copy_to_the_device_waits():
    x, host, stream = filled(0, BIG), torch.ones(BIG), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        x.copy_(host, non_blocking=True)
    assert slow.query()


def test_pageable_copy_to_the_host_waits():
    x, host, stream = filled(1, BIG), torch.zeros(BIG), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        host.copy_(x, non_blocking=True)
    assert slow.query()
    assert host[-1].item() == 1


def test_to_cpu_non_blocking_gives_pinned_memory_and_does_not_wait():
    x, stream = filled(1), new_stream("a")
    slow = busy(stream)
    with accelerator.stream(stream):
        host = x.to("cpu", non_blocking=True)
    assert not slow.query()
    assert host.is_pinned()
    stream.synchronize()
    assert host.tolist() == [1.0] * 4


def test_a_copy_from_pinned_memory_that_converts_does_not_wait():
    x, stream = filled(0), new_stream("a")
    host = torch.ones(4, dtype=torch.int64).pin_memory()
    x.copy_(host, non_blocking=True)
    accelerator.synchronize()
    x.zero_()
    accelerator.synchronize()
    slow = busy(stream)
    with accelerator.stream(stream):
        x.copy_(host, non_blocking=True)
    assert not slow.query()
    stream.synchronize()
    assert x.tolist() == [1.0] * 4


def test_pinned_memory_may_be_dropped_while_its_copy_is_in_flight():
    x, host, stream = filled(0), pinned(1), new_stream("a")
    busy(stream)
    with accelerator.stream(stream):
        x.copy_(host, non_blocking=True)
    del host
    other = torch.full((4,), 9.0, pin_memory=True)
    stream.synchronize()
    assert x.tolist() == [1.0] * 4
    del other


# --- memory ----------------------------------------------------------------------------------------------------------

ODD = 3 * 1024 * 1024 + 512  # a size that nothing else has


def test_freed_memory_is_reused_at_once_on_its_own_stream():
    sleep(BUSY_MS)
    x = torch.empty(ODD, device=DEVICE)
    address = x.data_ptr()
    del x
    assert torch.empty(ODD, device=DEVICE).data_ptr() == address


def test_record_stream_holds_freed_memory_back():
    accelerator.empty_cache()  # of all that earlier tests have freed, another block might fit as well
    x = torch.empty(ODD, device=DEVICE)
    address, stream = x.data_ptr(), new_stream("a")
    slow = busy(stream)
    x.record_stream(stream)
    del x
    y = torch.empty(ODD, device=DEVICE)
    assert not slow.query()
    assert y.data_ptr() != address
    stream.synchronize()
    assert torch.empty(ODD, device=DEVICE).data_ptr() == address


def test_record_stream_of_the_own_stream_changes_nothing():
    sleep(BUSY_MS)
    x = torch.empty(ODD, device=DEVICE)
    address = x.data_ptr()
    x.record_stream(accelerator.current_stream())
    del x
    assert torch.empty(ODD, device=DEVICE).data_ptr() == address


def test_empty_touches_nothing_so_a_wait_before_the_first_write_is_enough():
    reader = new_stream("a")
    x, y = filled(1, ODD), filled(0, ODD)
    address = x.data_ptr()
    busy(reader)
    with accelerator.stream(reader):
        y.copy_(x)
        done = reader.record_event()
    del x  # no record_stream: the memory is free for this stream at once
    z = torch.empty(ODD, device=DEVICE)
    assert z.data_ptr() == address
    accelerator.current_stream().wait_event(done)
    z.fill_(2)
    accelerator.synchronize()
    assert (y[0].item(), y[-1].item(), z[0].item()) == (1.0, 1.0, 2.0)


@pytest.mark.usefixtures("no_garbage")
def test_memory_allocated_counts_live_tensors_in_512_byte_steps():
    before = accelerator.memory_allocated()
    x = torch.empty(100, device=DEVICE)
    y = x[:50]
    assert accelerator.memory_allocated() - before == 512
    del x
    assert accelerator.memory_allocated() - before == 512, "a view keeps the memory"
    del y
    assert accelerator.memory_allocated() == before


# --- graphs ----------------------------------------------------------------------------------------------------------


def captured(x, y, pool=None):
    graph = accelerator.CUDAGraph()
    with accelerator.graph(graph, pool=pool):
        y.copy_((x + 1) * 2)
    return graph


def test_capturing_runs_nothing():
    x, y = filled(1), filled(0)
    captured(x, y)
    accelerator.synchronize()
    assert y.tolist() == [0.0] * 4


def test_replay_reads_what_its_inputs_hold_then():
    x, y = filled(1), filled(0)
    graph = captured(x, y)
    graph.replay()
    assert y.tolist() == [4.0] * 4
    x.fill_(2)
    graph.replay()
    assert y.tolist() == [6.0] * 4


def test_replay_goes_to_the_current_stream_in_order():
    x, y, stream = filled(1), filled(0), new_stream("a")
    graph = captured(x, y)
    busy(stream)
    with accelerator.stream(stream):
        x.fill_(2)
        graph.replay()
        y.add_(1)
    stream.synchronize()
    assert y.tolist() == [7.0] * 4


def test_graphs_of_one_pool_may_take_turns():
    x, y, z = filled(1), filled(0), filled(0)
    first = captured(x, y)
    second = captured(x, z, pool=first.pool())
    for _ in range(2):
        first.replay()
        second.replay()
    assert (y.tolist(), z.tolist()) == ([4.0] * 4, [4.0] * 4)


def test_launches_of_one_graph_wait_for_each_other_on_any_stream():
    x, graph, warm_up = filled(0), accelerator.CUDAGraph(), new_stream("capture")
    with accelerator.graph(graph, stream=warm_up):
        x.add_(1)
    a, b = new_stream("a"), new_stream("b")
    slow = busy(a)
    for stream in (a, b):
        with accelerator.stream(stream):
            graph.replay()
    b.synchronize()
    assert slow.query(), "the launch on b did not wait for the one on a"
    assert x.tolist() == [2.0] * 4


def test_the_default_stream_captures_nothing():
    x = filled(1)
    with pytest.raises(RuntimeError):
        graph, stream = accelerator.CUDAGraph(), accelerator.default_stream()
        with clean_capture() as pool, accelerator.graph(graph, pool=pool, stream=stream):
            x.add_(1)
    assert x.tolist() == [1.0] * 4


def test_synchronising_in_a_capture_raises():
    x = filled(1)
    with pytest.raises(RuntimeError):
        with clean_capture() as pool, accelerator.graph(accelerator.CUDAGraph(), pool=pool):
            x.sum().item()
    accelerator.synchronize()


def test_a_stream_that_is_forked_in_a_capture_is_captured_and_must_be_joined():
    x, y, graph, capturing, side = filled(1), filled(0), accelerator.CUDAGraph(), new_stream("a"), new_stream("side")
    with accelerator.graph(graph, stream=capturing):
        x.add_(1)
        side.wait_stream(capturing)
        with accelerator.stream(side):
            assert accelerator.is_current_stream_capturing()
            y.copy_(x)
        capturing.wait_stream(side)
        y.mul_(10)
    accelerator.synchronize()
    assert (x.tolist(), y.tolist()) == ([1.0] * 4, [0.0] * 4)
    for value in (20.0, 30.0):
        graph.replay()
        assert y.tolist() == [value] * 4


def test_a_capture_with_a_stream_that_is_not_joined_raises():
    x = filled(1)
    with pytest.raises(RuntimeError):
        capturing, side = new_stream("a"), new_stream("side")
        with clean_capture() as pool, accelerator.graph(accelerator.CUDAGraph(), pool=pool, stream=capturing):
            side.wait_stream(capturing)
            with accelerator.stream(side):
                x.add_(1)
    assert x.tolist() == [1.0] * 4


def test_a_stream_that_is_not_forked_works_on_beside_a_capture():
    x, y, graph, side = filled(0), filled(0), accelerator.CUDAGraph(), new_stream("side")
    with accelerator.graph(graph):
        x.add_(1)
        with accelerator.stream(side):
            assert not accelerator.is_current_stream_capturing()
            y.add_(1)
    side.synchronize()
    for _ in range(2):
        graph.replay()
    assert (x.tolist(), y.tolist()) == ([2.0] * 4, [1.0] * 4)


# --- backward passes -------------------------------------------------------------------------------------------------


def forward_on(side):
    """A leaf and its loss, of which the first operation ran on `side` and the second on the current stream."""
    weight = filled(2).requires_grad_()
    side.wait_stream(accelerator.current_stream())
    with accelerator.stream(side):
        squares = weight * weight
    accelerator.current_stream().wait_stream(side)
    return weight, squares.sum()


def test_a_backward_operation_runs_on_the_stream_of_its_forward_operation():
    side = new_stream("side")
    forward_on(side)[1].backward()  # the first time loads kernels, which may wait
    weight, loss = forward_on(side)
    accelerator.synchronize()
    busy(side)
    loss.backward()
    assert not side.record_event().query() and weight.grad is not None
    assert not accelerator.current_stream().record_event().query(), "backward did not wait for what side had before it"


def test_gradients_are_ready_for_the_stream_that_called_backward():
    side = new_stream("side")
    weight, loss = forward_on(side)
    busy(side)
    loss.backward()
    assert weight.grad.tolist() == [4.0] * 4


# --- errors ----------------------------------------------------------------------------------------------------------


def test_tensors_of_two_devices_do_not_mix():
    with pytest.raises(RuntimeError, match="same device"):
        filled(1) + torch.ones(4)


def test_a_number_on_the_cpu_may_take_part():
    assert (filled(1) * torch.tensor(3.0)).tolist() == [3.0] * 4


def test_sync_debug_mode_error_raises_at_a_hidden_synchronisation():
    x, event = filled(1), accelerator.Event()
    accelerator.set_sync_debug_mode("error")
    try:
        event.record()
        event.synchronize()  # asked for by name: allowed
        with pytest.raises(RuntimeError, match="synchroni"):
            x.sum().item()
    finally:
        accelerator.set_sync_debug_mode("default")
