"""Exercises 4.1 and 4.2: the three edges, and no more than these."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ch02_continuous_batching import Batch, Engine, SamplingParams
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch04_events.build import build
from tests.causes import likely
from tests.helpers import swapped, tiny_model
from tests.simulated import (
    POLICIES,
    STEP_LIMIT,
    Seen,
    assert_no_race,
    assert_tokens_right,
    expected,
    needs_simulator,
    overlap_ms,
    run_simulated,
)
from tests.words import counted
from toolkit.device import DEVICE, accelerator, sleep

pytestmark = needs_simulator
WAYS_TO_WAIT = ("query", "wait", "synchronize")  # for an event
LONG_MS = 50.0  # longer than everything else that a step does, on the virtual clock


class WatchedExecutor(EventExecutor):
    """Says so where no ids are returned, instead of what becomes of it in the engine."""

    def wait(self, batch: Batch, buffers: IOBuffers) -> list[int]:
        ids = super().wait(batch, buffers)
        assert ids is not None, (
            "wait returned None, not the sampled ids. The given line behind yours, `return buffers.read_ids(...)`, "
            "returns them; a `return` in front of it is the end of the function"
        )
        return ids


watched = swapped(build, EventExecutor=WatchedExecutor)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_simulated(watched)


class TwoBuffers(BufferPool):
    """IO buffers for a second batch, so that two can be queued."""

    def __init__(self, buffers: Sequence[IOBuffers]) -> None:
        super().__init__([*buffers, IOBuffers(buffers[0].padding, DEVICE)])

    def buffers_for(self, batch: Batch) -> IOBuffers:
        return self.buffers[batch.step % 2]


class SlowExecutor(WatchedExecutor):
    """Forwards and copies out take long."""

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        sleep(LONG_MS)
        super().run(batch, buffers)

    def copy_out(self, batch: Batch, buffers: IOBuffers) -> None:
        sleep(LONG_MS)
        super().copy_out(batch, buffers)


slow_with_two_buffers = swapped(build, BufferPool=TwoBuffers, EventExecutor=SlowExecutor)


def launch_two() -> tuple[EventExecutor, list[tuple[Batch, IOBuffers]]]:
    """Launch two batches, each of a request of its own, and commit none. Returns the executor and what is in flight."""
    from toolkit import simgpu

    simgpu.reset("lazy", on_race="collect")
    engine: Engine[IOBuffers] = slow_with_two_buffers(tiny_model(), num_blocks=20)
    in_flight = []
    for name, prompt in (("a", [5, 6, 7]), ("b", [8, 9])):
        engine.add_request(name, prompt, SamplingParams())
        batch = engine.prepare()
        in_flight.append((batch, engine.executor.launch(batch)))
    return engine.executor, in_flight


def queue_one_batch() -> tuple[list[str], list[str]]:
    """Launch one batch without committing it. Returns the races and the host's waits so far."""
    from toolkit import simgpu

    simgpu.reset("lazy", on_race="collect")
    engine = build(tiny_model(), num_blocks=20)
    before = len(simgpu.synchronisations())
    engine.add_request("a", [5, 6, 7], SamplingParams())
    engine.executor.launch(engine.prepare())
    waits = [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()[before:]]
    return [str(race) for race in simgpu.races()], waits


@pytest.mark.exercise("4.1")
def test_a_launched_batch_has_no_race():
    """From copy in over forward to copy out, everything waits for what it needs: the detector has nothing to say."""
    races, _ = queue_one_batch()
    assert not races, f"one batch was queued; {counted(len(races), 'race')}, the first one:\n{races[0]}"


@pytest.mark.exercise("4.1")
@pytest.mark.overlap
def test_launching_does_not_make_the_host_wait():
    """Queueing a batch returns at once: streams wait for each other on the device, not by way of the host."""
    _, waits = queue_one_batch()
    assert not waits, (
        f"while it queued a batch, the host waited in: {waits[0]}. Use stream.wait_event(event); "
        "event.synchronize() stops the host, and with it everything that it could do meanwhile"
    )


@pytest.mark.exercise("4.1")
def test_d2h_done_stands_behind_the_copy_out():
    """The event d2h_done is behind the copy out: once it is reached, the host may read the sampled ids."""
    from toolkit import simgpu

    simgpu.reset("lazy", on_race="collect")
    engine = build(tiny_model(), num_blocks=20)
    engine.add_request("a", [5, 6, 7], SamplingParams())
    buffers = engine.executor.launch(engine.prepare())
    before = len(simgpu.races())
    buffers.d2h_done.synchronize()
    buffers.read_ids(1)
    races = [str(race) for race in simgpu.races()[before:]]
    assert not races, (
        f"the host waited for d2h_done, and the sampled ids may still be missing. Is it recorded behind copy_out?\n"
        f"{races[0]}"
    )
    lanes = {name: {span.lane for span in simgpu.spans() if span.name == name} for name in ("forward", "D2H copy")}
    assert lanes == {"forward": {"compute"}, "D2H copy": {"d2h"}}, (
        f"each kind of work keeps the stream that it has in chapter 3; seen: {lanes}"
    )


@pytest.mark.exercise("4.1")
@pytest.mark.overlap
def test_nothing_waits_for_more_than_it_needs():
    """Two batches, each in buffers of its own: the second one waits for neither ids nor copies of the first.

    The second batch's inputs are copied while the first one is computed, and its forward runs while the first one's
    ids are copied out.
    """
    from toolkit import simgpu

    launch_two()
    copies_in, forwards, copies_out = (
        [span for span in simgpu.spans() if span.name == name] for name in ("H2D copy", "forward", "D2H copy")
    )
    assert (len(forwards), len(copies_out)) == (2, 2), (
        f"two batches were queued; the device got {counted(len(forwards), 'forward')} and "
        f"{counted(len(copies_out), 'copy', 'copies')} out"
    )
    assert copies_in[-1].start < forwards[0].end, (
        f"the second batch's inputs were copied in at {copies_in[-1].start:.0f} simulated ms, and the first batch's "
        f"forward ended at {forwards[0].end:.0f}: the stream h2d waits for the work of another stream, which holds up "
        "the copies that could run meanwhile. Copying in needs to wait for nothing on the device"
    )
    assert forwards[1].start < copies_out[0].end, (
        f"the second batch's forward began at {forwards[1].start:.0f} simulated ms, and the first batch's ids were "
        f"copied out until {copies_out[0].end:.0f}: the stream compute waits for d2h. A forward waits for its own "
        "inputs and for nothing else"
    )


@pytest.mark.exercise("4.2")
def test_there_is_no_race(seen: Seen):
    """Over the whole run every two operations on the same bytes are ordered, the host's reads and writes included."""
    assert_no_race(seen)


def note_calls(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[tuple[str, Any]]:
    """From now on, the calls of these methods of events: (name of the method, event)."""
    from toolkit import simgpu

    calls: list[tuple[str, Any]] = []

    def noting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(event: Any, *arguments: Any) -> Any:
            calls.append((name, event))
            asked = sum(each == "query" for each, _ in calls)
            assert asked < 100, (
                f"wait has called query() {asked} times. Asking again and again keeps a core of the host busy; "
                "event.synchronize() waits, and is one call"
            )
            return method(event, *arguments)

        return call

    for name in names:
        monkeypatch.setattr(simgpu.Event, name, noting(name, getattr(simgpu.Event, name)))
    return calls


@pytest.mark.exercise("4.2")
def test_the_host_waits_for_d2h_done(monkeypatch: pytest.MonkeyPatch):
    """The host waits for the event behind its batch's copy out, in a call that does not return before."""
    from toolkit import simgpu

    executor, [(_, first), (batch, buffers)] = launch_two()
    calls = note_calls(monkeypatch, *WAYS_TO_WAIT)
    ids = executor.wait(batch, buffers)
    buffers.read_ids(1)
    races = [str(race) for race in simgpu.races()]
    names = {name for name, _ in calls}
    assert not races or "wait" not in names, (
        "wait made a stream wait (event.wait, or stream.wait_event), and the host went on at once. "
        "event.synchronize() is the call in which the host waits"
    )
    other = any(event is each for _, event in calls for each in (first.h2d_done, first.compute_done, first.d2h_done))
    cause = " It waited for an event of the other batch: each has its own, buffers.d2h_done." if other else ""
    assert not races, (
        f"two batches are in flight, wait was called for the second one and has returned, and its ids may still be "
        f"missing.{cause}\n{races[0]}"
    )
    accelerator.synchronize()
    right = buffers.read_ids(1)
    assert ids == right, f"the second batch has sampled {right}; wait returned {ids}. `read_ids` returns them"


@pytest.mark.exercise("4.2")
@pytest.mark.overlap
def test_the_host_waits_for_nothing_else(monkeypatch: pytest.MonkeyPatch):
    """With the next batch queued behind it, the first batch's ids are waited for, and not the next batch's work."""
    from toolkit import simgpu

    executor, [(batch, buffers), _] = launch_two()
    before = len(simgpu.synchronisations())
    records = note_calls(monkeypatch, "record")
    executor.wait(batch, buffers)
    now = simgpu.now_ms()
    ends = [span.end for span in simgpu.spans() if span.name == "D2H copy"]
    waits = [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()[before:]]
    assert now < ends[1], (
        f"the first batch's ids were on the host at {ends[0]:.0f} simulated ms, and wait returned at {now:.0f}, "
        f"when the second batch was through as well: the host waited in {waits[-1] if waits else 'no call'}. "
        + likely(
            (bool(records), "wait has recorded an event again, which then stands behind all that is queued by now"),
            otherwise="Synchronise on d2h_done alone",
        )
    )


@pytest.mark.exercise("4.2")
@pytest.mark.overlap
def test_the_host_waits_for_an_event_and_for_nothing_more(seen: Seen):
    """Over the whole run the host waits for events only."""
    others = [wait for wait in seen.waits if not wait.startswith("Event.synchronize")]
    assert not others, (
        f"the host waited in {others[0]} ({counted(len(others), 'time')}). That waits for more than the sampled ids; "
        "results stay right, but with two batches in flight nothing would overlap. Synchronise on d2h_done alone"
    )


@pytest.mark.exercise("4.2")
@pytest.mark.parametrize("policy", POLICIES)
def test_right_under_every_policy(policy: str):
    """The tokens equal those of generate, in whatever order that CUDA's rules allow the device runs."""
    seen = run_simulated(watched, policy)
    assert_tokens_right(seen, policy)


def test_right_under_preemption():
    """Blocks that are freed while a batch is in flight are reused at once: all KV access is on the compute stream."""
    seen = run_simulated(build, "random:3", num_blocks=12)
    assert_no_race(seen)
    assert seen.outputs == expected()


def test_nothing_overlaps_yet(seen: Seen):
    """The order is right, and the host still does nothing while the device computes: no gain in this chapter."""
    overlap = overlap_ms(seen.recording, ("prepare", "commit"))
    assert overlap < 1e-6, (
        f"the host prepared or committed for {overlap:.1f} simulated ms while a forward ran: with one batch at a time "
        "it can only do so if it did not wait for d2h_done"
    )
    assert seen.recording.idle_share() > 0.1, "with one batch at a time, the device idles while the host works"
    assert len(seen.recording.steps()) < STEP_LIMIT
