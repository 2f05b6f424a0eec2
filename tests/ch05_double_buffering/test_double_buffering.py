"""Exercises 5.1 to 5.3: IO buffers for two batches, two groups, and an order that overlaps."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from ch02_continuous_batching import Batch, BlockManager, Request, RequestOutput, SamplingParams
from ch03_streams import IOBuffers
from ch04_events import EventExecutor
from ch04_events.build import build as build_ch04
from ch05_double_buffering import BufferRing, HalfBatchScheduler, PipelinedEngine
from ch05_double_buffering.build import build
from tests.causes import likely
from tests.helpers import swapped, tiny_model
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
from tests.words import counted, work_left
from toolkit.device import DEVICE

pytestmark = needs_simulator


class WatchedEngine(PipelinedEngine):
    """Looks at what the learner's functions hand to each other, so that a mistake is named where it is made."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.executor.pool.engine = self

    def advance(self) -> list[RequestOutput]:
        outputs = super().advance()
        assert isinstance(outputs, list), (
            f"a step returns a list of outputs, an empty one if it has none; seen: {outputs}"
        )
        return outputs

    def commit(self, batch: Batch, handle: IOBuffers) -> list[RequestOutput]:
        seen = f"commit({type(batch).__name__}, {type(handle).__name__})"
        assert isinstance(batch, Batch) and isinstance(handle, IOBuffers), (
            f"commit takes a batch and its handle, which `launch` returned; seen: {seen}"
        )
        return super().commit(batch, handle)


class WatchedExecutor(EventExecutor):
    """Looks at what is launched."""

    def launch(self, batch: Batch) -> IOBuffers:
        assert isinstance(batch, Batch), (
            f"launch was called with {batch}: prepare() returns None when nothing can run, and then there is no batch"
        )
        return super().launch(batch)


class WatchedRing(BufferRing):
    """Looks at the buffers that each batch is given.

    Attributes:
        given: the buffers, in their order at the beginning.
        engine: whose batches they are for.
    """

    engine: WatchedEngine

    def __init__(self, buffers: Sequence[IOBuffers]) -> None:
        super().__init__(buffers)
        self.given = tuple(buffers)

    def buffers_for(self, batch: Batch) -> IOBuffers:
        try:
            buffers = super().buffers_for(batch)
        except LookupError as error:
            pytest.fail(f"buffers_for (exercise 5.2) raised {type(error).__name__}: {error}, for batch {batch.step}")
        known = [each is buffers for each in self.given]
        assert any(known), (
            f"buffers_for (exercise 5.2) gave batch {batch.step} {short(buffers)}, and not one of self.buffers: only "
            "these have a captured forward"
        )
        in_flight = {other.step: used for other, used in self.engine.in_flight}
        later = [step for step in range(min(in_flight, default=batch.step), batch.step) if step not in in_flight]
        assert not later, (
            f"batch {min(in_flight)} is still in flight, and batch {later[0]}, which was launched after it, is not: "
            "the oldest is committed first"
        )
        using = [step for step, used in in_flight.items() if used is buffers]
        if len(in_flight) < self.engine.max_in_flight:  # with more in flight, none are free: a mistake of 5.3
            assert not using, (
                f"buffers_for (exercise 5.2) gave batch {batch.step} buffers[{known.index(True)}], which batch "
                f"{using[0]} uses; that one is in flight. The host overwrites its inputs, perhaps before they were "
                "copied"
            )
        return buffers


watched = swapped(build, PipelinedEngine=WatchedEngine, EventExecutor=WatchedExecutor, BufferRing=WatchedRing)


def short(value: object) -> str:
    return repr(value) if value is None or isinstance(value, int | float) else f"a new {type(value).__name__}"


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_simulated(watched)


def engine_with_prompts() -> WatchedEngine:
    """An engine with all prompts in its queue."""
    engine: WatchedEngine = watched(tiny_model(), num_blocks=80, block_size=4, max_rows=6)
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=8))
    return engine


def fresh_engine(on_race: str = "raise") -> WatchedEngine:
    """The same on a simulated GPU that has done nothing yet."""
    from toolkit import simgpu

    simgpu.reset("lazy", on_race=on_race)
    return engine_with_prompts()


def launch_next(engine: WatchedEngine) -> None:
    """Prepare and launch a batch, which is then in flight."""
    batch = engine.prepare()
    engine.in_flight.append((batch, engine.executor.launch(batch)))


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
    if not isinstance(seen, int):
        cause = "It is a whole number"
    elif requests > 8 and seen > limit:
        cause = "The engine never runs more than max_rows, so both halves together are that many"
    elif seen == requests > 1:
        cause = "All of them would leave none for the next batch"
    elif seen < limit and requests % 2:
        cause = "Half of an odd number is rounded up: rounding down would starve a single request"
    else:
        cause = "It is half of the requests that run and wait"
    assert isinstance(seen, int) and seen == limit, (
        f"{counted(requests, 'request waits', 'requests wait')}, none runs, max_rows is 8: at most "
        f"{counted(limit, 'row')}; rows_limit says {seen}. {cause}"
    )


@pytest.mark.exercise("5.1")
def test_those_that_run_are_counted_too():
    """Once the requests run, half of them is still the limit."""
    scheduler = scheduler_with(6)
    scheduler.running = list(scheduler.waiting)
    scheduler.waiting.clear()
    seen = scheduler.rows_limit()
    assert seen == 3, (
        f"6 requests run, none waits: at most 3 rows; rows_limit says {seen}"
        + ". Both count, len(running) and len(waiting)" * (seen == 0)
    )


@pytest.mark.exercise("5.1")
def test_two_groups_take_turns():
    """With one batch in flight, the next one takes the other half: no request is in both."""
    scheduler = scheduler_with(6)
    first, second = ({row.request.request_id for row in scheduler.schedule()} for _ in range(2))
    assert len(first) == len(second) == 3 and not first & second, (
        f"6 requests should be split 3 and 3; the first batch has {sorted(first)}, the second {sorted(second)}"
    )


# --- 5.2: buffers for two batches ---


@pytest.mark.exercise("5.2")
def test_no_batch_gets_buffers_in_use():
    """Six batches, the oldest committed when two are in flight: each gets the buffers that no other in flight uses."""
    from toolkit import simgpu

    engine = fresh_engine(on_race="collect")
    buffers = engine.executor.pool.buffers
    assert len(buffers) == 2, f"two batches in flight need 2 IO buffers; the engine has {len(buffers)}"
    for _ in range(6):
        launch_next(engine)
        if len(engine.in_flight) == 2:
            first, second = (handle for _, handle in engine.in_flight)
            shared = [name for name in first.host_inputs if first.host_inputs[name] is second.host_inputs[name]]
            assert not shared, (
                f"both batches' buffers share the pinned tensors {shared}: the host overwrites them in flight"
            )
            engine.commit(*engine.in_flight.popleft())
    races = [str(race) for race in simgpu.races()]
    assert not races, f"each batch had buffers to itself; {counted(len(races), 'race')}, the first one:\n{races[0]}"


@pytest.mark.exercise("5.2")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_buffers_are_used_in_turns(count: int):
    """A ring may have any number of buffers: so many batches in a row get each a set of their own."""
    some = fresh_engine().executor.pool.buffers[0]
    ring = BufferRing([IOBuffers(some.padding, DEVICE) for _ in range(count)])
    places = {id(buffers): place for place, buffers in enumerate(ring.buffers)}
    given = []
    for step in range(2 * count):
        try:
            buffers = ring.buffers_for(Batch(step, (), inputs=None))
        except LookupError as error:
            pytest.fail(
                f"a ring of {count}, batch {step}: {type(error).__name__}: {error}. How many there are, self.buffers "
                "knows"
            )
        assert id(buffers) in places, f"batch {step} gets one of self.buffers; buffers_for returned {short(buffers)}"
        given.append(places[id(buffers)])
    for first in range(count + 1):
        assert len(set(given[first : first + count])) == count, (
            f"a ring of {count} gave batches 0 to {len(given) - 1} the buffers number {given}. Of {count} batches in a "
            "row two have the same. How many there are, self.buffers knows"
        )


@pytest.mark.exercise("5.2")
def test_choosing_buffers_does_not_wait_for_the_batch_in_flight():
    """While a batch is in flight the next one is given its buffers at once."""
    engine = fresh_engine()
    launch_next(engine)
    (_, handle), batch = engine.in_flight[0], engine.prepare()
    engine.executor.pool.buffers_for(batch)
    assert not handle.d2h_done.query(), (
        "batch 0 was in flight when buffers_for was asked for the buffers of batch 1, and is through by now: the host "
        "has waited for it. Other buffers than its own are free, without a wait"
    )


@pytest.mark.exercise("5.2")
def test_buffers_are_never_written_in_flight():
    """The host writes into buffers only when the copies of the batch that used them last are through."""
    from toolkit import simgpu

    engine = fresh_engine()
    try:
        for _ in range(2):
            launch_next(engine)
    except simgpu.RaceError as race:
        pytest.fail(f"two batches were launched, each into the buffers that buffers_for gave it, and then:\n{race}")


@pytest.mark.exercise("5.2")
def test_each_engine_has_a_ring_of_its_own():
    """Two engines in turns: the batches of the one do not change which buffers the other's batches get."""
    engines = fresh_engine(), engine_with_prompts()
    for _ in range(4):
        for engine in engines:
            launch_next(engine)
            if len(engine.in_flight) == 2:
                engine.commit(*engine.in_flight.popleft())


# --- 5.3: the order of a step ---


@pytest.mark.exercise("5.3")
def test_the_second_batch_is_launched_before_the_first_is_committed():
    """The first step only launches; from the second on, a step launches a batch and then commits the one before."""
    engine = fresh_engine()
    first = engine.advance()
    assert first == [], (
        f"the first step launches a batch; there is nothing to commit before it, so it returns []; seen: "
        f"{'None' if first is None else counted(len(first), 'output')}"
    )
    assert len(engine.in_flight) == 1, (
        f"after the first step one batch is in flight, as (batch, handle); in_flight has {len(engine.in_flight)}"
    )
    batch, handle = engine.in_flight[0]
    assert isinstance(batch, Batch) and any(handle is each for each in engine.executor.pool.buffers), (
        f"in_flight holds pairs (batch, handle), and launch returns the handle; seen: ({type(batch).__name__}, "
        f"{type(handle).__name__})"
    )
    outputs = engine.advance()
    assert outputs, (
        f"the second step launches the second batch and commits the first; it returned "
        f"{'None' if outputs is None else 'no output'}, and "
        f"{counted(len(engine.in_flight), 'batch is', 'batches are')} in flight"
    )
    steps = [batch.step for batch, _ in engine.in_flight]
    causes = {
        (0,): ". Oldest first",
        (0, 1): ": what is committed is no longer in flight, take it out",
        (): ". One a step",
    }
    assert steps == [1], (
        "the second step commits batch 0, and batch 1 stays in flight; in flight are "
        f"{steps}{causes.get(tuple(steps), '')}"
    )


@pytest.mark.exercise("5.3")
@pytest.mark.parametrize(("most", "in_flight"), [(1, [[], [], []]), (3, [[0], [0, 1], [1]])])
def test_so_many_batches_are_in_flight(most: int, in_flight: list[list[int]]):
    """With max_in_flight=1 each step commits its own batch; with 3 the oldest, when no request is left to schedule."""
    engine = fresh_engine()
    engine.max_in_flight = most
    seen = []
    for _ in in_flight:
        engine.advance()
        seen.append([batch.step for batch, _ in engine.in_flight])
    assert seen == in_flight, (
        f"max_in_flight is {most}, and two batches hold all requests: after each of three steps these batches should "
        f"be in flight: {in_flight}; seen: {seen}. A step commits one batch at most, the oldest"
    )


@pytest.mark.exercise("5.3")
def test_a_step_with_nothing_to_do_brings_nothing():
    """Before the first request and after the last one, a step launches nothing, commits nothing and returns []."""
    engine = fresh_engine()
    for when in ("with its requests served", "once more"):
        for _ in range(200):
            if not engine.has_work:
                break
            engine.advance()
        assert not engine.has_work, f"after 200 steps there is still work: {work_left(engine)}" + likely(
            (
                bool(engine.in_flight) and engine.prepare() is None,
                ". There is nothing to launch, and what is in flight is not committed",
            )
        )
        try:
            seen = engine.advance()
        except (AttributeError, IndexError, TypeError) as error:
            pytest.fail(
                f"a step of an idle engine, {when}, raised {type(error).__name__}: {error}. prepare() returns None "
                "there, and in_flight is empty"
            )
        assert seen == [], f"a step of an idle engine returns []; seen: {seen}"


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
@pytest.mark.overlap
def test_the_host_works_while_the_device_computes(seen: Seen):
    """On the simulated timeline, preparing and committing overlap with forwards, and the device hardly idles."""
    overlap = overlap_ms(seen.recording, ("prepare", "commit"))
    work = sum(
        1e3 * (s.end - s.start) for s in seen.recording.spans if s.lane == "host" and s.name in ("prepare", "commit")
    )
    others = [wait for wait in seen.waits if not wait.startswith("Event.synchronize")]
    starts = {name: sorted(s.start for s in seen.recording.spans if s.name == name) for name in ("launch", "commit")}
    launched = sum(start < starts["commit"][0] for start in starts["launch"])
    assert overlap > 0.8 * work, (
        f"of {work:.1f} simulated ms of host work only {overlap:.1f} overlap with a forward. The tokens may be right, "
        "but "
        + likely(
            (
                launched > 2,
                f"{launched} batches are launched before the first is committed, and there are buffers for 2: when "
                "both are taken, the oldest batch is committed",
            ),
            otherwise="the host waits too early: launch the next batch before you commit the one before, and wait for "
            "nothing but that batch's d2h_done",
        )
        + (f". It also waits in: {others[0]}" if others else "")
    )
    assert not others, (
        f"the host waited in {others[0]} ({counted(len(others), 'time')}): a step waits in `commit` alone, for that "
        "batch's d2h_done"
    )
    idle = seen.recording.idle_share()
    assert idle < 0.05, f"the device still idles {idle:.1%} of the simulated time; chapter 4 was at about 18 %"


@pytest.mark.exercise("5.3")
@pytest.mark.parametrize("policy", POLICIES)
def test_right_under_every_policy(policy: str):
    """The tokens equal those of generate, in whatever order that CUDA's rules allow the device runs."""
    seen = run_simulated(watched, policy)
    assert_tokens_right(seen, policy)


def test_right_under_preemption():
    """A request that is preempted while its batch is in flight loses that token and gets it again."""
    seen = run_simulated(build, "random:5", num_blocks=12)
    assert_no_race(seen)
    assert seen.outputs == expected()


def test_the_price_is_two_half_batches(seen: Seen):
    """Half batches need about twice the steps, each reads the weights again: on this workload it is slower."""
    one_at_a_time = run_simulated(build_ch04)
    assert len(seen.recording.steps()) > 1.5 * len(one_at_a_time.recording.steps())
    assert Counter(map(len, seen.outputs)) == Counter(map(len, one_at_a_time.outputs))
    assert seen.simulated_ms > one_at_a_time.simulated_ms
