"""One launch for a whole function with declared reads and writes."""

import ctypes
import threading

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "threads", "random:2"]


def double(source, target):
    target.copy_(source * 2)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_box_runs_its_function_on_plain_tensors_in_stream_order(policy):
    simgpu.reset(policy)
    x, y, seen = torch.ones(4, device="sim"), torch.zeros(4, device="sim"), []

    def fn(source, target):
        seen.append((type(source), source.device.type))
        double(source, target)

    x.add_(1)
    simgpu.launch("box", fn, reads=[x], writes=[y], cost_ms=3.0)
    assert y.add_(1).tolist() == [5.0] * 4
    assert seen == [(torch.Tensor, "cpu")]


def test_a_box_is_one_span_of_its_declared_cost():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    before = len(simgpu.spans())
    simgpu.launch("box", double, [x], [y], cost_ms=3.0)
    (span,) = simgpu.spans()[before:]
    assert span.name == "box" and span.end - span.start == pytest.approx(3.0)


def test_a_box_takes_part_in_race_detection():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    with simgpu.stream(simgpu.Stream(name="a")) as a:
        a.wait_stream(simgpu.default_stream())
        simgpu.launch("forward", double, [x], [y])
    with pytest.raises(simgpu.RaceError, match="writes: forward on a"):
        y.sum()


def test_reads_may_be_written_by_others_only_after_the_box():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    simgpu.synchronize()
    with simgpu.stream(simgpu.Stream(name="a")):
        simgpu.launch("forward", double, [x], [y])
    x.sum()
    with pytest.raises(simgpu.RaceError, match="reads: forward on a"):
        x.add_(1)


def test_an_undeclared_device_tensor_makes_the_box_fail():
    x, y, z = (torch.ones(4, device="sim") for _ in range(3))
    simgpu.launch("forward", lambda source, target: z.add_(1), [x], [y])
    with pytest.raises(simgpu.DeviceError, match="forward on default failed(.|\n)*does not declare"):
        simgpu.synchronize()


def test_a_declared_device_tensor_may_be_used_by_its_own_name():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    simgpu.launch("forward", lambda source, target: y.copy_((x * 2 + 1)[:4]), [x], [y])
    assert y.tolist() == [3.0] * 4


def test_a_read_only_tensor_may_not_be_written_in_the_box():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    simgpu.launch("forward", lambda source, target: x.add_(1), [x], [y])
    with pytest.raises(simgpu.DeviceError, match="writes a .* does not declare"):
        simgpu.synchronize()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "write",
    [
        lambda source, target: source.add_(1),
        lambda source, target: source[1:].zero_(),
        lambda source, target: source.view(2, 2).t()[0].copy_(target[:2]),
        lambda source, target: torch.add(target, 1, out=source),
        lambda source, target: source.fill_(1),  # what it holds already
        lambda source, target: source.detach().mul_(1),
    ],
)
def test_a_box_that_writes_what_it_declares_as_read_fails(policy, write):
    simgpu.reset(policy)
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    simgpu.launch("forward", write, [x], [y])
    with pytest.raises(
        simgpu.DeviceError, match=r"'forward' writes a \(4,\) float32 buffer, which it declares as read"
    ):
        simgpu.synchronize()


@pytest.mark.parametrize("policy", ["eager", "lazy", "random:2"])
@pytest.mark.parametrize(
    "write", [lambda source: source.data.add_(1), lambda source: source.numpy().fill(3), lambda source: x_of(source)]
)
def test_a_box_that_writes_behind_torchs_back_fails_too(policy, write):
    simgpu.reset(policy)
    x = torch.ones(4, pin_memory=True)
    simgpu.launch("forward", write, [x])
    with pytest.raises(simgpu.DeviceError, match="declares as read only"):
        simgpu.synchronize()


def x_of(source):
    ctypes.memset(source.data_ptr(), 7, source.nbytes)


def test_a_box_may_read_what_it_declares_as_read_and_write_another_part_of_it():
    x = torch.arange(6.0, device="sim")
    simgpu.launch("forward", lambda source, target: target.copy_(source[:2] * 10), [x], [x[4:]])
    simgpu.launch("copy", lambda source, target: target.copy_(source), [x[:2]], [x[2:4]])
    assert x.tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 10.0]
    simgpu.launch("forward", lambda source, target: source[3:5].numpy().fill(7), [x], [x[4:]])
    with pytest.raises(simgpu.DeviceError, match="declares as read only"):
        simgpu.synchronize()


def test_a_box_that_races_is_not_accused_of_writing():
    """With a thread per stream another operation may change the bytes meanwhile: that is reported, as a race."""
    simgpu.reset("threads", on_race="collect")
    x, y, host = torch.zeros(4, device="sim"), torch.zeros(4, device="sim"), torch.ones(4, pin_memory=True)
    started, changed = threading.Event(), threading.Event()

    def slow(source, target):
        started.set()
        changed.wait(10)
        target.copy_(source)

    simgpu.synchronize()
    with simgpu.stream(simgpu.Stream(name="a")):
        simgpu.launch("forward", slow, [x], [y])
    started.wait(10)
    with simgpu.stream(simgpu.Stream(name="b")) as b:
        x.copy_(host, non_blocking=True)
        b.synchronize()
    changed.set()
    simgpu.synchronize()
    assert len(simgpu.races()) == 1 and y.tolist() == [1.0] * 4


def test_a_box_that_would_wait_for_the_device_fails():
    x, y = torch.ones(4, device="sim"), torch.zeros(4, device="sim")
    simgpu.launch("forward", lambda source, target: x.sum().item(), [x], [y])
    with pytest.raises(simgpu.DeviceError, match="makes the host wait"):
        simgpu.synchronize()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "call",
    [
        simgpu.synchronize,
        lambda: simgpu.sleep(1.0),
        lambda: simgpu.launch("inner", lambda: None),
        lambda: simgpu.current_stream().record_event().synchronize(),
    ],
)
def test_a_box_may_neither_launch_nor_wait(policy, call):
    simgpu.reset(policy)
    simgpu.launch("forward", call)
    with pytest.raises(simgpu.DeviceError, match="not permitted in a launched function"):
        simgpu.synchronize()


def test_ordinary_cpu_tensors_are_refused():
    with pytest.raises(TypeError, match="device or pinned"):
        simgpu.launch("forward", double, [torch.ones(4)], [torch.ones(4, device="sim")])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_module_in_a_box_shares_its_weights_with_the_device(policy):
    simgpu.reset(policy)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).eval()
    x = torch.randn(3, 4)
    expected = model(x).detach()
    on_device = model.to("sim")
    plain = simgpu.plain_module(on_device)
    source, target = x.to("sim"), torch.zeros(3, 4, device="sim")
    simgpu.launch("forward", lambda s, t: t.copy_(plain(s)), [source], [target])
    torch.testing.assert_close(target.cpu(), expected)
    with torch.no_grad():
        on_device[0].weight.zero_()
        simgpu.synchronize()
    assert plain[0].weight.abs().sum().item() == 0.0, "one memory, two views of it"


def test_a_box_may_be_captured():
    x, y, graph = torch.ones(4, device="sim"), torch.zeros(4, device="sim"), simgpu.CUDAGraph()
    with simgpu.graph(graph):
        simgpu.launch("forward", double, [x], [y])
    assert y.tolist() == [0.0] * 4
    graph.replay()
    assert y.tolist() == [2.0] * 4
