"""Sealed boxes: one launch for a whole function with declared reads and writes."""

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
    with pytest.raises(simgpu.DeviceError, match="not permitted in a sealed box"):
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
