"""Exercise 8.4: steps that raise."""

import pytest

from ch02_continuous_batching import FinishReason, SamplingParams
from ch08_full_engine import FullEngine
from tests.causes import likely
from tests.ch08_full_engine.full_runs import Watch, engine_on
from tests.simulated import PROMPTS, expected, needs_simulator
from tests.words import counted, must_raise, work_left
from toolkit.errors import UserError

pytestmark = needs_simulator


class Trouble(Exception):
    """What the tests let a step raise."""


def fail_in(monkeypatch, engine: FullEngine, where: str, calls: set[int] | range, after: bool = False) -> None:
    """Let the calls of these numbers raise, before or after the method has done its work; one of engine or executor."""
    owner = engine.executor if where in ("launch", "run", "copy_out") else engine
    work, count = getattr(owner, where), iter(range(10**6))

    def failing(*arguments):
        chosen = next(count) in calls
        if chosen and not after:
            raise Trouble(f"{where} has failed")
        result = work(*arguments)
        if chosen:
            raise Trouble(f"{where} has failed")
        return result

    monkeypatch.setattr(owner, where, failing)


@pytest.mark.exercise("8.4")
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("where", ["prepare", "launch", "commit", "run", "copy_out"])
def test_one_error_costs_no_request_a_token(monkeypatch, where: str, asynchronous: bool):
    """One call of one function raises, whichever it is and early or late: each request gets generate's tokens."""
    for call in (0, 5):
        for after in (False, True):
            engine = engine_on(asynchronous=asynchronous)
            fail_in(monkeypatch, engine, where, {call}, after)
            watch = Watch(engine).add_prompts().run()
            watch.assert_tokens(expected())
            assert not engine.stopped, f"the device is usable, and the engine has stopped: {engine.stopped}"
            assert not engine.in_flight, f"the engine is idle, and there is still work: {work_left(engine)}"


@pytest.mark.exercise("8.4")
@pytest.mark.parametrize("policy", ["lazy", "random:3", "threads"])
def test_the_device_is_waited_for_before_anything_is_forgotten(policy: str):
    """After an error IO buffers and blocks are used again at once: no race, whatever the device had still to do."""
    for steps in (1, 3, 6):
        engine = engine_on(policy)
        watch = Watch(engine).add_prompts().run(steps=steps)
        engine.recover(Trouble("with a batch in flight"))
        watch.run().assert_tokens(expected())


@pytest.mark.exercise("8.4")
def test_errors_now_and_then_fail_no_request(monkeypatch):
    """Every fifth launch raises, and steps in between bring tokens: that is never twice in a row."""
    engine = engine_on()
    fail_in(monkeypatch, engine, "launch", range(2, 1000, 5))
    watch = Watch(engine).add_prompts().run()
    watch.assert_tokens(expected())
    assert {end.finish_reason for end in watch.ended.values()} == {FinishReason.LENGTH}, (
        "failures that are not in a row ended a request; a step that brought something starts the count again"
    )


@pytest.mark.exercise("8.4")
def test_errors_in_a_row_fail_those_that_run_once_each():
    """`recover` is called twice without a step in between: who ran has ended with one ERROR, who waited is served."""
    engine = engine_on(max_rows=3)
    watch = Watch(engine).add_prompts().run(steps=4)
    engine.recover(Trouble("the first time"))
    early = sorted(output.request_id for output in engine.book.outputs)
    assert not early, f"the first error in a row ended the requests {early}; all of them start over"
    left = [request.request_id for request in engine.scheduler.running]
    assert not left, (
        f"after an error those that ran wait to start over; {left} still run. (preempt changes the list `running`: go "
        "through a copy)"
    )
    engine.prepare()  # lets the first three in again
    running = sorted(request.request_id for request in engine.scheduler.running)
    engine.recover(Trouble("launch has failed"))
    watch.run()
    failed = sorted(name for name, end in watch.ended.items() if end.finish_reason is FinishReason.ERROR)
    assert failed == running, (
        f"two errors in a row with the requests {running} running; ended with ERROR: {failed}. Only those that were "
        "running end, and only at the second failure"
    )
    for name in failed:
        assert "launch has failed" in watch.ended[name].error, f"the error says {watch.ended[name].error!r}"
        right = expected()[int(name)][: len(watch.tokens[name])]
        assert watch.tokens[name] == right, f"until it failed request {name} got {watch.tokens[name]}, not {right}"
    watch.assert_tokens(expected(), besides=tuple(failed))


def assert_all_failed(watch: Watch) -> None:
    reasons = {name: end.finish_reason for name, end in watch.ended.items()}
    others = {name: reason for name, reason in reasons.items() if reason is not FinishReason.ERROR}
    assert not others, f"every step has failed, so each request ends with ERROR; these did not: {others}"


@pytest.mark.exercise("8.4")
def test_errors_forever_end_all_requests_and_the_engine_stops(monkeypatch):
    """If every launch raises, each request gets its ERROR, one after the other, and has_work becomes False."""
    engine = engine_on(max_rows=3)
    fail_in(monkeypatch, engine, "launch", range(1000))
    watch = Watch(engine).add_prompts().run()
    assert_all_failed(watch)
    assert not engine.stopped, "the device is usable, so the engine takes new requests"


@pytest.mark.exercise("8.4")
def test_errors_with_nothing_running_come_to_an_end(monkeypatch):
    """Requests cannot even be let in: they end one by one, each with its ERROR, and the engine comes to rest."""
    engine = engine_on()
    watch = Watch(engine).add_prompts()
    for _ in range(3):
        engine.recover(Trouble("prepare has failed"))
    watch.run()
    failed = sorted(name for name, end in watch.ended.items() if end.finish_reason is FinishReason.ERROR)
    assert failed == ["0", "1"], (
        f"three errors in a row with none running; from the second one on the first who waits ends. Ended: {failed}"
    )
    watch.assert_tokens(expected(), besides=("0", "1"))
    engine = engine_on()
    fail_in(monkeypatch, engine, "prepare", range(1000))
    assert_all_failed(Watch(engine).add_prompts().run())


@pytest.mark.exercise("8.4")
def test_nothing_is_in_flight_after_an_error():
    """The batch that is in flight when a step raises is forgotten: its buffers are free, its rows are dropped."""
    engine = engine_on()
    watch = Watch(engine).add_prompts().run(steps=4)
    assert engine.in_flight, "after 4 steps no batch is in flight, and there is nothing to forget"
    ran = len(engine.scheduler.running)
    engine.recover(Trouble("with a batch in flight"))
    assert not engine.in_flight, (
        f"{counted(len(engine.in_flight), 'batch is', 'batches are')} in flight after an error, though all requests "
        "start over, and the next batch takes IO buffers without asking for them"
    )
    running, waiting = len(engine.scheduler.running), len(engine.scheduler.waiting)
    assert (running, waiting) == (0, len(PROMPTS)), (
        f"after the error all requests wait to start over, {len(PROMPTS)} of them; seen: {running} running, {waiting} "
        "waiting. "
    ) + likely(
        (0 < running < ran, "(preempt changes the list `running`: go through a copy)"),
        (running == ran, "Those that ran are preempted."),
        (running == 0, "None ends at the first error."),
    )
    watch.run().assert_tokens(expected())


@pytest.mark.exercise("8.4")
def test_a_lost_device_ends_all_requests_and_says_so(monkeypatch):
    """After an operation that fails on the device, every request gets one ERROR, and new ones the advice to restart."""
    engine = engine_on(max_rows=3)
    forward = engine.executor.forward
    compute, count = forward.forward, iter(range(1000))

    def failing(*arguments):
        if next(count) == 4:
            raise RuntimeError("index out of bounds, made up\nand a second line")
        return compute(*arguments)

    forward.forward = failing
    watch = Watch(engine).add_prompts().run()
    assert sorted(watch.ended) == sorted(watch.tokens), f"ended: {sorted(watch.ended)}"
    reasons = {end.finish_reason for end in watch.ended.values()}
    assert reasons == {FinishReason.ERROR}, f"the device is lost: all end with ERROR, waiting or not; {reasons}"
    for name, end in watch.ended.items():
        assert "index out of bounds" in end.error, f"request {name} should say what has failed; it says {end.error!r}"
    with must_raise(UserError, "restart", "the device is lost, and a new request is taken all the same"):
        engine.add_request("new", [5, 6], SamplingParams(max_tokens=2))
    assert "index out of bounds" in engine.stopped, f"`stopped` should say why; it says {engine.stopped!r}"
    assert "\n" not in engine.stopped, f"`stopped` is one line; it is {engine.stopped!r}"
    assert not engine.has_work and engine.step() == [], "the engine has stopped, and has work or outputs"


@pytest.mark.exercise("8.4")
def test_an_error_with_no_request_there(monkeypatch):
    """A step that raises without any request, and again: nothing to fail, and the next request is served."""
    engine = engine_on()
    fail_in(monkeypatch, engine, "prepare", {0, 1, 2})
    for _ in range(3):
        assert engine.step() == [], "there was no request, and a step that failed brought outputs"
    Watch(engine).add_prompts(2).run().assert_tokens(expected())


@pytest.mark.exercise("8.4")
def test_blocks_with_a_name_are_kept_through_an_error(monkeypatch):
    """What was committed before the error need not be computed again: requests come back with their own blocks."""
    engine = engine_on()
    fail_in(monkeypatch, engine, "launch", {4})
    watch = Watch(engine)
    watch.add("0", [*range(3, 43)])
    watch.run()
    assert engine.metrics.shared_tokens >= 40 - 4, (
        f"the prompt of 40 tokens was committed; after the error {engine.metrics.shared_tokens} tokens of it "
        "were not computed again"
    )
    assert not engine.failures, f"steps were committed since the error, and failures is {engine.failures}"
