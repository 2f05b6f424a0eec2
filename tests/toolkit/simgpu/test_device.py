"""toolkit.device: nothing is registered until the accelerator is asked for; the helpers work on the simulator."""

import subprocess
import sys

import pytest
import torch

from toolkit import device, simgpu


def in_a_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_importing_toolkit_device_registers_nothing():
    done = in_a_new_process(
        "import sys, torch, toolkit.device\n"
        "assert not any(name.startswith('toolkit.simgpu') for name in sys.modules)\n"
        "assert str(torch.accelerator.current_accelerator()) != 'sim'\n"
        "from toolkit.device import accelerator, DEVICE\n"
        "assert DEVICE == 'sim' and torch.zeros(2, device=DEVICE).device.type == 'sim'\n"
        "assert accelerator.__name__ == 'toolkit.simgpu'"
    )
    assert done.returncode == 0, done.stderr


def test_the_simulator_is_refused_where_cuda_is():
    done = in_a_new_process("import torch\ntorch.cuda.is_available = lambda: True\nimport toolkit.simgpu")
    assert done.returncode != 0 and "the simulated GPU is for machines without CUDA" in done.stderr


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        device.nothing  # noqa: B018


def test_streams_have_names():
    stream = device.new_stream("h2d")
    assert stream.name == "h2d"


def test_one_launch_is_repeated_as_often_as_one_likes():
    x, y = torch.ones(4, device=device.DEVICE), torch.zeros(4, device=device.DEVICE)
    forward = device.one_launch("forward", lambda source, target: target.add_(source), [x], [y], cost_ms=2.0)
    assert y.tolist() == [0.0] * 4
    forward()
    forward()
    assert y.tolist() == [2.0] * 4
    device.launch("once more", lambda source, target: target.add_(source), [x], [y])
    assert y.tolist() == [3.0] * 4


def test_a_timeline_of_the_accelerator_is_simulated():
    timeline, stream = device.new_timeline(), device.new_stream("compute")
    with timeline.host("prepare", step=0):
        device.host_work(2.0)
    with device.accelerator.stream(stream), timeline.device("forward", lane="compute", step=0):
        device.launch("forward", lambda: None, cost_ms=5.0)
    recording = timeline.finish()
    assert recording.clock == "simulated"
    lengths = {span.name: span.end - span.start for span in recording.spans}
    assert lengths["prepare"] == pytest.approx(0.002) and lengths["forward"] == pytest.approx(0.005, rel=0.01)


def test_plain_module_and_is_simulated():
    assert device.is_simulated()
    layer = torch.nn.Linear(2, 2).to(device.DEVICE)
    assert type(device.plain_module(layer).weight.data) is torch.Tensor


def test_the_copy_table_in_the_lesson_of_hidden_synchronisations():
    x, pageable = torch.zeros(20_000, device="sim"), torch.zeros(20_000)
    x.copy_(pageable, non_blocking=True)
    (found,) = simgpu.synchronisations()[-1:]
    assert found.hidden and found.what == "non_blocking H2D copy, pageable memory"
    assert "x.copy_(pageable, non_blocking=True)" in str(found.site)
