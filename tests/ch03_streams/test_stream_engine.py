"""Exercise 3.3: three streams. The engine must be asynchronous, and it must be wrong."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ch03_streams import StreamExecutor
from ch03_streams.build import build
from tests.causes import likely
from tests.helpers import swapped
from tests.simulated import Seen, expected, needs_simulator, run_simulated
from tests.words import counted
from toolkit.forward import Forward

pytestmark = needs_simulator


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_simulated(build)


def lanes_of(name: str) -> set[str]:
    """The streams on which operations of this name ran while the engine of this test was at work."""
    from toolkit import simgpu

    return {span.lane for span in simgpu.spans() if span.name == name}


class Watched(StreamExecutor):
    """Notes in which order `queue` calls the three, on which streams, and which stream it leaves behind."""

    def queue(self, batch, buffers):
        from toolkit import simgpu

        self.calls: list[tuple[str, str]] = []
        before = "the caller's"
        with simgpu.stream(simgpu.Stream(name=before)):
            super().queue(batch, buffers)
            after = simgpu.current_stream().name
        right = [("copy_in", "h2d"), ("run", "compute"), ("copy_out", "d2h")]
        names, streams = [name for name, _ in self.calls], {stream for _, stream in self.calls}
        assert self.calls == right, (
            f"queue has to call {right}, each on its stream and in this order; seen: {self.calls}. "
            + likely(
                (
                    names == ["run"],
                    "Call this executor's own copy_in and copy_out with (batch, buffers); they call the buffers'",
                ),
                (len(names) < 3, "A call is missing: this executor's own three, with (batch, buffers)"),
                (len(names) > 3, "Once each will do"),
                (
                    names != [name for name, _ in right],
                    "Even a device that runs everything at once, as it comes, would be wrong",
                ),
                (
                    streams == {before},
                    "The current stream was not changed: `with accelerator.stream(self.h2d):`, with the `with`",
                ),
            )
        )
        assert after == before, (
            f"before queue the current stream was {before!r}, after it {after!r}, and all that follows would go there. "
            "`with accelerator.stream(s):` restores it at its end, set_stream does not"
        )

    def copy_in(self, batch, buffers):
        self.note("copy_in")
        super().copy_in(batch, buffers)

    def run(self, batch, buffers):
        self.note("run")
        super().run(batch, buffers)

    def copy_out(self, batch, buffers):
        self.note("copy_out")
        super().copy_out(batch, buffers)

    def note(self, name: str) -> None:
        from toolkit import simgpu

        self.calls.append((name, simgpu.current_stream().name))


@pytest.mark.exercise("3.3")
def test_three_calls_on_three_streams_in_order():
    """Inputs, forward and sampled ids are queued in this order, each on its stream; the current stream stays."""
    run_simulated(swapped(build, StreamExecutor=Watched))


@pytest.mark.exercise("3.3")
@pytest.mark.parametrize(("operation", "stream"), [("forward", "compute"), ("D2H copy", "d2h")])
def test_each_kind_of_work_has_its_stream(operation: str, stream: str):
    """Forwards run on the stream `compute`, copies of the sampled ids on `d2h`."""
    run_simulated(build)
    seen = lanes_of(operation)
    assert seen == {stream}, f"{operation} should run on the stream {stream!r} only; it ran on {sorted(seen)}"


@pytest.mark.exercise("3.3")
def test_inputs_travel_on_their_own_stream():
    """The inputs are copied on the stream `h2d` (what is allocated at the start uses the default stream)."""
    run_simulated(build)
    seen = lanes_of("H2D copy")
    assert "h2d" in seen and not seen & {"compute", "d2h"}, f"inputs should be copied on 'h2d'; seen: {sorted(seen)}"


@pytest.mark.exercise("3.3")
@pytest.mark.overlap
def test_the_host_never_waits(seen: Seen):
    """No step makes the host wait for the device, neither by name nor hidden in another call."""
    assert not seen.waits, (
        f"the host waited {counted(len(seen.waits), 'time')}, first in: {seen.waits[0]}. This chapter only queues; "
        "look for synchronize(), .item(), .tolist() or .cpu() on a device tensor"
    )


@pytest.mark.exercise("3.3")
@pytest.mark.overlap
def test_the_three_lanes_start_together(seen: Seen):
    """The copy out does not wait for the forward: nothing tells it to."""
    recording = seen.recording
    missing = {"h2d", "compute", "d2h"} - {span.lane for span in recording.spans}
    assert not missing, (
        f"the timeline has nothing on {sorted(missing)}. Call the executor's own copy_in, run and copy_out, with "
        "(batch, buffers): they write the timeline, and call the buffers'"
    )
    late = []
    for step in recording.steps():
        starts = {span.lane: span.start for span in recording.spans if span.step == step and span.lane != "host"}
        ends = {span.lane: span.end for span in recording.spans if span.step == step and span.lane != "host"}
        if starts["d2h"] >= ends["compute"]:
            late.append(step)
    assert len(late) < len(recording.steps()) / 2, (
        f"in {len(late)} of {len(recording.steps())} steps the copy out started after the forward had ended: something "
        "orders the streams. That is chapter 4; here they must be free"
    )


@pytest.mark.exercise("3.3")
@pytest.mark.parametrize(
    ("first", "second", "edge"),
    [
        ("H2D copy on h2d", "forward on compute", "compute.wait_event"),
        ("forward on compute", "D2H copy on d2h", "d2h.wait_event"),
        ("D2H copy on d2h", "tolist on host", "event.synchronize() on the host"),
    ],
)
@pytest.mark.overlap
def test_the_detector_names_every_missing_edge(seen: Seen, first: str, second: str, edge: str):
    """The race detector reports each pair of operations that nothing orders, and the edge that is missing."""
    found = [race for race in seen.races if first in race and second in race.split("2nd")[1] and edge in race]
    assert found, (
        f"no report names {first!r}, then {second!r}, and {edge!r}. Seen {counted(len(seen.races), 'report')} in "
        "all. Either something orders these two (a wait, or one stream for both), or they run on other streams"
    )


def test_the_result_depends_on_luck():
    """The same program gives right tokens if the device happens to run in program order, and wrong ones if not."""
    right = run_simulated(build, "eager").outputs == expected()
    assert right, "the tokens are wrong even in program order: queue copy_in first, then run, then copy_out"
    for policy in ("lazy", "random:1"):
        wrong = run_simulated(build, policy).outputs != expected()
        assert wrong, f"under the policy {policy!r} the tokens are right: something waits. This chapter adds no waits"


def test_graphs_are_captured_while_no_garbage_is_collected(monkeypatch: pytest.MonkeyPatch):
    """On a GPU `capture_all` captures graphs, and an old engine taken apart meanwhile would break the capture."""
    inside: list[bool] = []
    captured: list[bool] = []

    @contextmanager
    def no_collection() -> Iterator[None]:
        inside.append(True)
        yield
        inside.pop()

    class WatchedForward(Forward):
        def capture_all(self, inputs, output, full):
            captured.append(bool(inside))

    monkeypatch.setitem(StreamExecutor.__init__.__globals__, "no_collection", no_collection)
    run_simulated(swapped(build, Forward=WatchedForward))
    assert captured == [True], f"captured inside `no_collection()`: {captured}; all IO buffers' graphs have to be"
