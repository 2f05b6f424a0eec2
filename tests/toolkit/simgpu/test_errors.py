"""A failed operation surfaces at the next synchronisation, as one error with the line that launched it; no hang."""

import pytest
import torch

from toolkit import simgpu

POLICIES = ["eager", "lazy", "threads", "random:1"]


def fail(stream=None):
    def fn():
        raise ValueError("boom")

    with simgpu.stream(stream):
        simgpu.launch("forward", fn)  # the guilty line


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "wait",
    [
        simgpu.synchronize,
        lambda: simgpu.current_stream().synchronize(),
        lambda: simgpu.current_stream().record_event().synchronize(),
        lambda: torch.zeros(1, device="sim").item(),
        lambda: torch.zeros(1, device="sim").cpu(),
    ],
)
def test_a_failure_surfaces_at_the_next_synchronisation(policy, wait):
    simgpu.reset(policy)
    fail()
    torch.zeros(4, device="sim").add_(1)  # launches go on until somebody waits
    with pytest.raises(simgpu.DeviceError, match="forward on default failed: ValueError: boom") as caught:
        wait()
    assert "the guilty line" in str(caught.value)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_failure_in_another_stream_does_not_hang_who_waits_for_it(policy):
    simgpu.reset(policy)
    a, b = simgpu.Stream(name="a"), simgpu.Stream(name="b")
    fail(a)
    b.wait_stream(a)
    with simgpu.stream(b):
        torch.zeros(4, device="sim").add_(1)
    with pytest.raises(simgpu.DeviceError):
        b.synchronize()


def test_all_streams_are_waited_for_though_one_has_failed():
    """After a synchronisation that raises, host memory of other streams' copies is free: to write there is no race."""
    simgpu.reset("lazy")
    fail()
    host = torch.zeros(4, pin_memory=True)
    with simgpu.stream(simgpu.Stream(name="copies")):
        torch.zeros(4, device="sim").copy_(host, non_blocking=True)
    with pytest.raises(simgpu.DeviceError):
        simgpu.synchronize()
    host.fill_(1.0)
    assert not simgpu.races()


def test_the_device_stays_unusable_until_reset():
    fail()
    with pytest.raises(simgpu.DeviceError):
        simgpu.synchronize()
    with pytest.raises(simgpu.DeviceError):
        torch.zeros(4, device="sim").add_(1)
    with pytest.raises(simgpu.DeviceError):
        simgpu.synchronize()
    simgpu.reset()
    assert torch.zeros(4, device="sim").add_(1).tolist() == [1.0] * 4


def test_an_index_out_of_range_fails_on_the_device_not_at_the_call():
    table, ids = torch.zeros(10, 4, device="sim"), torch.tensor([3, 99], device="sim")
    rows = torch.nn.functional.embedding(ids, table)
    with pytest.raises(simgpu.DeviceError, match="embedding on default failed: IndexError"):
        rows.cpu()


def test_wrong_shapes_and_dtypes_fail_at_the_call():
    x = torch.zeros(4, 4, device="sim")
    with pytest.raises(RuntimeError):
        x @ torch.zeros(3, 3, device="sim")
    with pytest.raises(RuntimeError):
        x.add_(torch.zeros(5, device="sim"))
    with pytest.raises(RuntimeError):
        x.copy_(torch.zeros(3))
    simgpu.synchronize()


def test_streams_and_events_of_an_earlier_run_are_refused():
    stream, event = simgpu.Stream(name="old"), simgpu.Event()
    event.record(stream)
    simgpu.reset()
    for call in (stream.synchronize, event.synchronize, event.query, stream.record_event, event.wait):
        with pytest.raises(RuntimeError, match="before reset"):
            call()
    with pytest.raises(RuntimeError, match="before reset"):
        with simgpu.stream(stream):
            pass


def test_tensors_of_an_earlier_run_live_on():
    simgpu.reset("lazy")
    x = torch.zeros(4, device="sim").add_(1)
    simgpu.reset("random:1")
    assert x.tolist() == [1.0] * 4
    x.add_(1)
    with simgpu.stream(simgpu.Stream(name="a")):
        with pytest.raises(simgpu.RaceError):
            x.add_(1)


@pytest.mark.parametrize("name", ["", "fast", "random", "random:", "random:x", "eager:1"])
def test_unknown_policies_are_refused(name):
    with pytest.raises(ValueError, match="unknown policy"):
        simgpu.reset(name)


def test_unknown_reaction_to_races_is_refused():
    with pytest.raises(ValueError, match="on_race"):
        simgpu.reset(on_race="ignore")
