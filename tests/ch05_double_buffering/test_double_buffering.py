"""Exercises 5.1 to 5.3: two slots, two groups, and an order that overlaps."""

from collections import Counter

import pytest

from ch02_continuous_batching import BlockManager, Request, SamplingParams
from ch04_events import EventEngine
from ch05_double_buffering import DoubleBufferedEngine, HalfBatchScheduler
from tests.simulated import (
    POLICIES,
    PROMPTS,
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
    return run_simulated(DoubleBufferedEngine)


def fresh_engine() -> DoubleBufferedEngine:
    """An engine with all prompts in its queue, that reports races by raising."""
    from tests.helpers import tiny_model
    from toolkit import simgpu

    simgpu.reset("lazy")
    engine = DoubleBufferedEngine(tiny_model(), num_blocks=80, block_size=4, max_rows=6)
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=8))
    return engine


# --- 5.1: half batches ---


def scheduler_with(waiting: int, max_rows: int = 8) -> HalfBatchScheduler:
    scheduler = HalfBatchScheduler(BlockManager(64, 4), max_rows, token_budget=64)
    for i in range(waiting):
        scheduler.add(Request(str(i), [1, 2, 3], SamplingParams(), arrival=i))
    return scheduler


@pytest.mark.exercise("5.1")
@pytest.mark.parametrize(("requests", "limit"), [(8, 4), (7, 4), (2, 1), (1, 1), (20, 4)])
def test_a_step_takes_half_of_the_requests(requests: int, limit: int):
    """A step may have half as many rows as there are requests that could run, rounded up; max_rows caps them."""
    seen = scheduler_with(requests).rows_limit()
    assert seen == limit, (
        f"{requests} requests, max_rows 8: at most {limit} rows; rows_limit says {seen}. "
        "All of them would leave none for the next batch, and rounding down would starve a single request"
    )


@pytest.mark.exercise("5.1")
def test_two_groups_take_turns():
    """With one batch in flight, the next one takes the other half: no request is in both."""
    scheduler = scheduler_with(6)
    first, second = ({row.request.request_id for row in scheduler.schedule()} for _ in range(2))
    assert len(first) == len(second) == 3 and not first & second, (
        f"6 requests should be split 3 and 3; the first batch has {sorted(first)}, the second {sorted(second)}"
    )


# --- 5.2: two slots ---


@pytest.mark.exercise("5.2")
def test_batches_in_flight_have_their_own_slots():
    """Two batches that are in flight at the same time use different slots: tensors and events of their own."""
    engine = fresh_engine()
    assert len(engine.slots) == 2, f"two batches in flight need 2 slots; the engine has {len(engine.slots)}"
    for _ in range(2):
        batch = engine.prepare()
        engine.in_flight.append((batch, engine.free_slot(batch)))
    slots = [slot for _, slot in engine.in_flight]
    assert slots[0] is not slots[1], "two batches in a row got the same slot: the second overwrites the first's inputs"
    shared = [name for name in slots[0].host_inputs if slots[0].host_inputs[name] is slots[1].host_inputs[name]]
    assert not shared, f"the slots share the pinned tensors {shared}: the host overwrites them while they are copied"


@pytest.mark.exercise("5.2")
def test_slots_are_never_written_in_flight():
    """The host writes into a slot only when the copies of the batch that used it last are through."""
    engine = fresh_engine()
    launched = [engine.prepare(), engine.prepare()]
    try:
        for batch in launched:
            engine.in_flight.append((batch, engine.launch(batch)))
    except RuntimeError as race:
        pytest.fail(f"two batches were launched, each into the slot that free_slot gave it, and then:\n{race}")


# --- 5.3: the order of a step ---


@pytest.mark.exercise("5.3")
def test_the_second_batch_is_launched_before_the_first_is_committed():
    """The first step only launches; from the second on, a step launches a batch and then commits the one before."""
    engine = fresh_engine()
    assert engine.step() == [], "the first step launches a batch; there is nothing to commit before it, so no outputs"
    assert len(engine.in_flight) == 1, f"after the first step one batch is in flight; seen: {len(engine.in_flight)}"
    outputs = engine.step()
    assert outputs, "the second step launches the second batch and commits the first; it brought nothing"
    steps = [batch.step for batch, _ in engine.in_flight]
    assert steps == [1], f"batch 0 was committed, batch 1 is in flight; in flight are {steps}. Oldest first"


@pytest.mark.exercise("5.3")
def test_there_is_no_race(seen: Seen):
    """Over the whole run, with two batches in flight, every two operations on the same bytes are ordered."""
    assert_no_race(seen)


@pytest.mark.exercise("5.3")
def test_every_batch_is_committed(seen: Seen):
    """When nothing is left to launch, the batches in flight are committed: every request gets all its tokens."""
    lengths = [len(output) for output in seen.outputs]
    assert lengths == [8] * len(PROMPTS), (
        f"each request wants 8 tokens; they got {lengths}. Is the last batch forgotten?"
    )


@pytest.mark.exercise("5.3")
def test_the_host_works_while_the_device_computes(seen: Seen):
    """On the simulated timeline, preparing and committing overlap with forwards, and the device hardly idles."""
    overlap = overlap_ms(seen.recording, ("prepare", "commit"))
    work = sum(
        1e3 * (s.end - s.start) for s in seen.recording.spans if s.lane == "host" and s.name in ("prepare", "commit")
    )
    others = [wait for wait in seen.waits if not wait.startswith("Event.synchronize")]
    assert overlap > 0.8 * work, (
        f"of {work:.1f} simulated ms of host work only {overlap:.1f} overlap with a forward. The tokens may be right, "
        "but the host waits too early: launch the next batch before you commit the one before, and wait for nothing "
        "but that batch's d2h_done" + (f". It also waits in: {others[0]}" if others else "")
    )
    idle = seen.recording.idle_share()
    assert idle < 0.05, f"the device still idles {idle:.1%} of the simulated time; chapter 4 was at about 18 %"


@pytest.mark.exercise("5.3")
@pytest.mark.parametrize("policy", POLICIES)
def test_right_under_every_policy(policy: str):
    """The tokens equal those of generate, in whatever order that CUDA's rules allow the device runs."""
    seen = run_simulated(DoubleBufferedEngine, policy)
    assert_tokens_right(seen, policy)


def test_right_under_preemption():
    """A request that is preempted while its batch is in flight loses that token and gets it again."""
    seen = run_simulated(DoubleBufferedEngine, "random:5", num_blocks=12)
    assert_no_race(seen)
    assert seen.outputs == expected()


def test_the_price_is_two_half_batches(seen: Seen):
    """Half batches need about twice the steps, each reads the weights again: on this workload it is slower."""
    one_slot = run_simulated(EventEngine)
    assert len(seen.recording.steps()) > 1.5 * len(one_slot.recording.steps())
    assert Counter(map(len, seen.outputs)) == Counter(map(len, one_slot.outputs))
    assert seen.simulated_ms > one_slot.simulated_ms
