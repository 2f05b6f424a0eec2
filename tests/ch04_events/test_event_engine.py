"""Exercises 4.1 and 4.2: the three edges, and no more than these."""

import pytest

from ch04_events import EventEngine
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

pytestmark = needs_simulator


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_simulated(EventEngine)


def queue_one_batch() -> tuple[list[str], list[str]]:
    """Launch one batch without committing it. Returns the races and the host's waits so far."""
    from ch02_continuous_batching import SamplingParams
    from tests.helpers import tiny_model
    from toolkit import simgpu

    simgpu.reset("lazy", on_race="collect")
    engine = EventEngine(tiny_model(), num_blocks=20)
    before = len(simgpu.synchronisations())
    engine.add_request("a", [5, 6, 7], SamplingParams())
    batch = engine.prepare()
    engine.launch(batch)
    waits = [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()[before:]]
    return [str(race) for race in simgpu.races()], waits


@pytest.mark.exercise("4.1")
def test_a_launched_batch_has_no_race():
    """From copy in over forward to copy out, everything waits for what it needs: the detector has nothing to say."""
    races, _ = queue_one_batch()
    assert not races, f"one batch was queued, and {len(races)} races were found; the first one:\n{races[0]}"


@pytest.mark.exercise("4.1")
def test_launching_does_not_make_the_host_wait():
    """Queueing a batch returns at once: streams wait for each other on the device, not by way of the host."""
    _, waits = queue_one_batch()
    assert not waits, (
        f"while it queued a batch, the host waited in: {waits[0]}. Use stream.wait_event(event); "
        "event.synchronize() stops the host, and with it everything that it could do meanwhile"
    )


@pytest.mark.exercise("4.1")
def test_d2h_done_stands_behind_the_copy_out():
    """The event d2h_done stands behind the copy out: once it is reached, the host may read the sampled ids."""
    from ch02_continuous_batching import SamplingParams
    from tests.helpers import tiny_model
    from toolkit import simgpu

    simgpu.reset("lazy", on_race="collect")
    engine = EventEngine(tiny_model(), num_blocks=20)
    engine.add_request("a", [5, 6, 7], SamplingParams())
    slot = engine.launch(engine.prepare())
    before = len(simgpu.races())
    engine.events[id(slot)].d2h_done.synchronize()
    slot.read_ids(1)
    races = [str(race) for race in simgpu.races()[before:]]
    assert not races, (
        f"the host waited for d2h_done, and the sampled ids may still be missing. Is it recorded behind copy_out?\n"
        f"{races[0]}"
    )
    lanes = {name: {span.lane for span in simgpu.spans() if span.name == name} for name in ("forward", "D2H copy")}
    assert lanes == {"forward": {"compute"}, "D2H copy": {"d2h"}}, (
        f"each kind of work keeps the stream that it has in chapter 3; seen: {lanes}"
    )


@pytest.mark.exercise("4.2")
def test_there_is_no_race(seen: Seen):
    """Over the whole run every two operations on the same bytes are ordered, the host's reads and writes included."""
    assert_no_race(seen)


@pytest.mark.exercise("4.2")
def test_the_host_waits_once_a_step_for_d2h_done(seen: Seen):
    """The host waits in one place: once a step, for an event, and for nothing more than that."""
    others = [wait for wait in seen.waits if not wait.startswith("Event.synchronize")]
    assert not others, (
        f"the host waited in {others[0]} ({len(others)} times). That waits for more than the sampled ids; "
        "results stay right, but with two batches in flight nothing would overlap. Synchronise on d2h_done alone"
    )
    steps = len(seen.recording.steps())
    assert len(seen.waits) == steps, (
        f"{steps} steps, so {steps} waits of the host, one event.synchronize() each; "
        f"seen {len(seen.waits)}. "
        + (f"The first: {seen.waits[0]}" if seen.waits else "An event that was never recorded holds nobody up")
    )


@pytest.mark.exercise("4.2")
@pytest.mark.parametrize("policy", POLICIES)
def test_right_under_every_policy(policy: str):
    """The tokens equal those of generate, in whatever order that CUDA's rules allow the device runs."""
    seen = run_simulated(EventEngine, policy)
    assert_tokens_right(seen, policy)


def test_right_under_preemption():
    """Blocks that are freed while a batch is in flight are reused at once: all KV access is on the compute stream."""
    seen = run_simulated(EventEngine, "random:3", num_blocks=12)
    assert_no_race(seen)
    assert seen.outputs == expected()


def test_nothing_overlaps_yet(seen: Seen):
    """The order is right, and the host still stands still while the device computes: no gain in this chapter."""
    overlap = overlap_ms(seen.recording, ("prepare", "commit"))
    assert overlap < 1e-6, (
        f"the host prepared or committed for {overlap:.1f} simulated ms while a forward ran: with one batch at a time "
        "it can only do so if it did not wait for d2h_done"
    )
    assert seen.recording.idle_share() > 0.1, "with one batch at a time, the device idles while the host works"
    assert len(seen.recording.steps()) < STEP_LIMIT
