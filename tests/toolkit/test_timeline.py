"""The timeline recorder and the numbers read from a recording."""

import json

import pytest

from tests.ch00_measuring.virtual_device import VirtualDevice
from toolkit.errors import UserError
from toolkit.timeline import NO_TIMELINE, Recording, Span, Timeline
from toolkit.worker_queue import WorkerQueue


def synchronous_steps(n: int = 4) -> Recording:
    """Warm-up, then `n` steps in virtual time: prepare 3 ms, wait for a forward of 12 ms, commit 5 ms."""
    device = VirtualDevice()
    timeline = Timeline("cpu", accelerator=device, now=device.now, clock="simulated")
    with timeline.device("warm-up"):
        device.launch(400.0)
    device.synchronize()
    for step in range(n):
        with timeline.host("prepare", step=step):
            device.host_work(3.0)
        with timeline.device("forward", step=step):
            device.launch(12.0)
        with timeline.host("wait", step=step):
            device.synchronize()
        with timeline.host("commit", step=step):
            device.host_work(5.0)
    return timeline.finish()


def test_device_spans_lie_where_the_device_ran():
    """A forward starts after its launch and lasts as long as the device took, not as long as the launch."""
    spans = synchronous_steps().spans
    for step in range(4):
        prepare, forward, wait = (
            next(s for s in spans if s.step == step and s.name == name) for name in ("prepare", "forward", "wait")
        )
        assert (forward.end - forward.start) * 1e3 == pytest.approx(12.0, abs=0.1), f"step {step}: {forward}"
        assert prepare.end <= forward.start < wait.start, f"step {step}: {prepare}, {forward}, {wait}"
        assert forward.end == pytest.approx(wait.end, abs=1e-4), f"step {step}: the host waits for {forward}"


def test_idle_share_leaves_warm_up_out():
    """The window is that of the steps: 12 of 20 ms busy, though a warm-up of 400 ms came before."""
    recording = synchronous_steps()
    assert recording.idle_share() == pytest.approx(8 / 20, abs=0.005)
    assert recording.steps() == [0, 1, 2, 3]


def test_idle_share_of_a_given_window():
    """A window can be given: the second step alone, or a stretch with nothing in it."""
    recording = Recording(
        (Span("forward", "compute", 0, 4, 0), Span("forward", "compute", 6, 10, 1), Span("h2d", "h2d", 4, 6, 1))
    )
    assert recording.window == (0, 10)
    assert recording.idle_share() == pytest.approx(0.2)
    assert recording.idle_share((5, 10)) == pytest.approx(0.2)
    assert recording.idle_share(recording.step_window(0, 0)) == 0.0
    assert recording.idle_share((4, 6)) == 1.0
    assert recording.idle_share(lane="h2d") == pytest.approx(0.8)
    given = Recording(recording.spans, steady_window=(0.0, 20.0))
    assert given.idle_share() == pytest.approx(0.6)


def test_overlapping_spans_count_once():
    """Two kernels at the same time on the compute lane are one stretch of work."""
    recording = Recording((Span("a", "compute", 0, 8, 0), Span("b", "compute", 4, 10, 0), Span("c", "host", 0, 20, 0)))
    assert recording.idle_share() == pytest.approx(0.5)


def test_host_ms_counts_work_and_not_waiting():
    """8 ms of work a step (3 prepare, 5 commit); waiting for the device is no work."""
    assert synchronous_steps().host_ms_per_step() == pytest.approx(8.0, abs=0.1)


def test_host_ms_with_nested_spans():
    """A span around the whole step is counted once, and a wait inside it is taken out."""
    recording = Recording(
        (
            Span("step", "host", 0.0, 0.010, 0),
            Span("prepare", "host", 0.001, 0.003, 0),
            Span("wait", "host", 0.003, 0.007, 0),
            Span("step", "host", 0.010, 0.020, 1),
            Span("forward", "compute", 0.002, 0.018, 1),
        )
    )
    assert recording.host_ms_per_step() == pytest.approx(8.0)
    assert recording.host_ms_per_step((0.0, 0.010)) == pytest.approx(6.0), "only half of it lies in the window"


def test_host_ms_without_steps_is_an_error():
    """There is no "per step" where no span names a step."""
    with pytest.raises(ValueError, match="belong to a step"):
        Recording((Span("prepare", "host", 0, 1),)).host_ms_per_step()


def test_on_the_cpu_the_host_does_the_device_work():
    """Without an accelerator device work runs inside its span, where the host lane shows that no host work is done."""
    ticks = iter(range(100))
    timeline = Timeline("cpu", now=lambda: float(next(ticks)))
    with timeline.host("prepare", step=0):  # 0 to 1
        pass
    with timeline.host("launch", step=0), timeline.device("forward", lane="compute", step=0):  # 2 to 5 around 3 to 4
        pass
    recording = timeline.finish()
    assert recording.spans == (
        Span("prepare", "host", 0.0, 1.0, 0),
        Span("launch", "host", 2.0, 5.0, 0),
        Span("forward", "compute", 3.0, 4.0, 0),
        Span("wait", "host", 3.0, 4.0, 0),
    )
    assert recording.clock == "host"
    assert recording.host_ms_per_step() == pytest.approx(3000), "prepare 1 s, and 2 of the 3 s of launch"


def test_a_queue_with_its_own_thread():
    """Work on the stand-in queue overlaps the host; its spans come in queue order and do not overlap each other."""
    queue = WorkerQueue()
    timeline = Timeline("cpu", accelerator=queue)
    for step in range(3):
        with timeline.device("forward", step=step):
            queue.launch(lambda: sum(range(20_000)))
    spans = timeline.finish().spans
    assert [span.step for span in spans] == [0, 1, 2]
    assert all(first.end <= second.start for first, second in zip(spans, spans[1:], strict=False)), spans


def test_a_failed_span_is_not_recorded():
    """An error passes through a span unchanged, and the span is left out."""
    timeline = Timeline("cpu")
    with pytest.raises(KeyError, match="boom"), timeline.host("prepare", step=0):
        raise KeyError("boom")
    assert timeline.finish().spans == ()


def test_a_device_without_accelerator_is_refused():
    """The host's clock would lie about any device with a queue of its own."""
    with pytest.raises(ValueError, match="accelerator"):
        Timeline("meta")


def test_an_accelerator_names_its_device():
    """A device that torch cannot name is named by its own namespace."""
    device = VirtualDevice()
    device.get_device_name = lambda: "virtual device"
    assert Timeline("meta", accelerator=device, now=device.now).finish().device == "virtual device"
    assert "cores" in Timeline("cpu", accelerator=device, now=device.now).finish().device


def test_no_timeline_records_nothing():
    """The null object has the same methods and leaves nothing behind."""
    with NO_TIMELINE.host("prepare", step=0), NO_TIMELINE.device("forward", lane="compute", step=0):
        pass
    assert NO_TIMELINE.finish().spans == ()


def test_rows_and_back():
    """Flat rows hold all spans; the times start at the window's start."""
    recording = synchronous_steps(2)
    again = Recording.from_rows(recording.rows(), device="somewhere")
    assert again.idle_share() == pytest.approx(recording.idle_share(), abs=1e-4)
    assert [s.name for s in again.spans] == [s.name for s in recording.spans]
    assert (again.clock, again.device, again.window[0]) == ("simulated", "somewhere", 0.0)


def test_save_and_load(tmp_path):
    """A saved recording comes back equal."""
    recording = Recording(synchronous_steps(2).spans, clock="cuda", device="x", steady_window=(1.0, 2.0))
    recording.save(tmp_path / "new" / "a.json")
    assert Recording.load(tmp_path / "new" / "a.json") == recording
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"], "nothing else may be left behind"


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps({"spans": [{"name": 1}]})])
def test_an_unreadable_recording_names_its_file(tmp_path, content):
    """A missing or broken file is one clear line with its name."""
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="a.json"):
        Recording.load(path)


def test_unknown_clock_is_refused():
    """A recording says where its times come from, with one of three words."""
    with pytest.raises(ValueError, match="clock"):
        Recording((), clock="virtual")


@pytest.mark.gpu
def test_cuda_spans_lie_behind_their_launch():
    """On a GPU a long kernel's span starts after its launch began and lasts longer than the launch."""
    import torch

    timeline = Timeline("cuda")
    for step in range(3):
        with timeline.host("launch", step=step), timeline.device("sleep", step=step):
            torch.cuda._sleep(20_000_000)
    recording = timeline.finish()
    launches = [span for span in recording.spans if span.lane == "host"]
    sleeps = [span for span in recording.spans if span.lane == "compute"]
    assert recording.clock == "cuda"
    for launch, sleep in zip(launches, sleeps, strict=True):
        assert sleep.start >= launch.start - 1e-4 and sleep.end > launch.end
