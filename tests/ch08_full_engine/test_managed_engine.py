"""Exercises 8.2 and 8.4: requests that are taken back, and steps that raise."""

import pytest

from ch02_continuous_batching import FinishReason, RequestStatus, SamplingParams
from ch08_full_engine import FullEngine, ManagedEngine, StreamedOutput
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, Watch, engine_on
from tests.helpers import tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator
from toolkit.errors import UserError

pytestmark = needs_simulator
STEPS = range(0, 14, 2)  # a run takes about so many; test_sweeps.py has all of them


# --- 8.2: the end of a request, wherever it is ---


@pytest.mark.exercise("8.2")
def test_a_running_request_ends():
    """Its blocks are free, its one output holds the tokens that it got, and a row in flight brings no other."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(1).run(steps=4)
    request = engine.requests["0"]
    got = len(request.output_ids)
    assert engine.in_flight, "a row of the request should be in flight"
    assert engine.cancel("0"), "the request runs, and cancel says that there is none of that name"
    assert request.status is RequestStatus.FINISHED and not engine.scheduler.running, f"status: {request.status}"
    assert engine.blocks.num_free_blocks == NUM_BLOCKS, (
        f"{engine.blocks.num_free_blocks} of {NUM_BLOCKS} blocks are free: they go back at once, rows in flight or not"
    )
    watch.run()
    output = watch.ended["0"]
    assert output.finish_reason is FinishReason.CANCELLED and len(output.output_ids) == got, (
        f"it was cancelled after {got} tokens; its last output has {len(output.output_ids)} and the reason "
        f"{output.finish_reason}"
    )


@pytest.mark.exercise("8.2")
def test_a_waiting_request_ends():
    """It leaves the queue without having owned anything, and gets its output with the next step."""
    engine = engine_on(max_rows=1)
    watch = Watch(engine).add_prompts(3).run(steps=3)
    request = engine.requests["2"]
    assert engine.cancel("2"), "the request waits, and cancel says that there is none of that name"
    assert request not in engine.scheduler.waiting and request.status is RequestStatus.FINISHED, (
        f"a request that has ended is FINISHED and out of the queue; seen: status {request.status}, in the queue: "
        f"{request in engine.scheduler.waiting}"
    )
    names = [output.request_id for output in watch.step() if output.finish_reason is not None]
    assert names == ["2"], f"the next step returns its terminal output; it returned the ends of {names}"
    watch.run().assert_tokens(expected(), besides=("2",))


@pytest.mark.exercise("8.2")
def test_preempted_in_flight_and_then_cancelled():
    """A request waits again, preempted a moment ago with a row in flight: that row brings nothing after its end."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(2).run(steps=3)
    request = engine.requests["1"]
    assert any(row.request is request for batch, _ in engine.in_flight for row in batch.rows)
    engine.scheduler.preempt(request)
    got = list(watch.tokens["1"])
    engine.cancel("1")
    watch.run().assert_tokens(expected(), besides=("1",))
    assert watch.tokens["1"] == got, f"cancelled with the tokens {got}, it ended with {watch.tokens['1']}"


@pytest.mark.exercise("8.2")
def test_the_output_knows_the_reason():
    """The reason is set before the last output is made, and the output is returned once."""
    engine = engine_on()
    Watch(engine).add_prompts(1)
    engine.end(engine.requests["0"], FinishReason.ERROR, "for a reason")
    outputs = engine.step()
    assert [(output.finish_reason, output.error) for output in outputs] == [(FinishReason.ERROR, "for a reason")], (
        f"one output with the reason ERROR and the words 'for a reason'; returned (reason, words): "
        f"{[(output.finish_reason, output.error) for output in outputs]}"
    )


@pytest.mark.exercise("8.2")
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("step", STEPS)
def test_cancelled_at_any_step(step: int, asynchronous: bool):
    """Before every step of a run one request is cancelled: it keeps what it got, the others get generate's tokens."""
    watch = Watch(engine_on(asynchronous=asynchronous, max_rows=4)).add_prompts().run(steps=step)
    chosen = str(step // 2)
    was_there = chosen not in watch.ended
    got = list(watch.tokens[chosen])
    seen = watch.engine.cancel(chosen)
    assert seen == was_there, f"request {chosen} {'has not' if was_there else 'has'} ended, and cancel returned {seen}"
    watch.run().assert_tokens(expected(), besides=(chosen,))
    if was_there:
        assert watch.tokens[chosen] == got == expected()[int(chosen)][: len(got)], (
            f"cancelled with the tokens {got}, request {chosen} ended with {watch.tokens[chosen]}"
        )
        reason = watch.ended[chosen].finish_reason
        assert reason is FinishReason.CANCELLED, f"request {chosen} was cancelled; it ended with {reason}"


@pytest.mark.exercise("8.2")
def test_nobody_waits_for_what_is_in_flight():
    """A request ends while rows of it are in flight: the host does not wait, and these batches stay as they are."""
    from toolkit import simgpu

    engine = engine_on()
    watch = Watch(engine).add_prompts(3).run(steps=3)
    waits, in_flight = len(simgpu.synchronisations()), list(engine.in_flight)
    engine.cancel("1")
    seen = [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()[waits:]]
    assert not seen, f"ending a request made the host wait for the device, which is a gap for everybody: {seen[0]}"
    assert list(engine.in_flight) == in_flight, "what is in flight is never touched; commit drops the row by its epoch"
    watch.run().assert_tokens(expected(), besides=("1",))


@pytest.mark.exercise("8.2")
def test_all_cancelled_in_flight():
    """With everybody gone, the batches in flight are still committed, and bring nothing."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(4).run(steps=2)
    assert engine.in_flight, "a batch should be in flight"
    for name in list(engine.requests):
        engine.cancel(name)
    watch.run()
    reasons = {output.finish_reason for output in watch.ended.values()}
    assert reasons == {FinishReason.CANCELLED}, f"all four were cancelled; they ended with {reasons}"
    assert not engine.in_flight, f"nobody is left, and {len(engine.in_flight)} batches are in flight"


@pytest.mark.exercise("8.2")
def test_cancelling_twice_changes_nothing():
    """The second time, and for names that never were, cancel says False."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(1).run(steps=2)
    seen = [engine.cancel("0"), engine.cancel("0"), engine.cancel("never was")]
    assert seen == [True, False, False], f"cancel returned {seen}"
    watch.run()


@pytest.mark.exercise("8.2")
def test_a_name_is_free_after_a_cancel():
    """A request is cancelled in flight, and another prompt comes under its name: it gets its own tokens."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(1).run(steps=4)
    engine.cancel("0")
    watch.step()
    second = Watch(engine)
    second.add("0", PROMPTS[1])
    second.run()
    assert second.tokens["0"] == expected()[1], f"tokens {second.tokens['0']}, and not {expected()[1]}"


# --- what is refused, alone ---


def test_a_bad_request_is_refused_and_nobody_else_notices():
    """Unknown tokens, a name in use, an empty prompt, impossible lengths: a clear error each, and the others go on."""
    engine = engine_on(num_blocks=12, max_length=40)
    watch = Watch(engine).add_prompts(2).run(steps=2)
    bad = [
        ("new", [5, 96], {}, "token 96 is none of the model's 0 to 95"),
        ("new", [-1], {}, "token -1"),
        ("1", [5], {}, "request 1: this name is in use"),
        ("new", [], {}, "no tokens"),
        ("new", [5] * 60, {}, "exceed the context of 40"),
        ("new", [5], {"max_tokens": 48}, "exceed the context of 40"),
        ("new", [5], {"stop": ("x",)}, "stop strings need a tokenizer"),
    ]
    for name, prompt, values, words in bad:
        with pytest.raises(UserError, match=words):
            engine.add_request(name, prompt, SamplingParams(**({"max_tokens": 4} | values)))
    watch.run().assert_tokens(expected())


@pytest.mark.parametrize("option", ["asynchronous", "prefix_sharing", "compiled"])
def test_options_are_true_or_false(option: str):
    """The word "no" would count as true."""
    with pytest.raises(UserError, match=f"{option} is 'no'; it is True or False"):
        engine_on(**{option: "no"})


def test_without_the_full_engine():
    """ManagedEngine by itself, without texts and prefixes: cancel and the last output work."""
    from toolkit import simgpu

    simgpu.reset()
    engine = ManagedEngine(tiny_model(), num_blocks=20, block_size=4)
    for i in range(2):
        engine.add_request(str(i), PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
    for _ in range(3):
        engine.step()
    engine.cancel("1")
    ends = []
    while engine.has_work:
        ends += [output for output in engine.step() if output.finish_reason is not None]
    assert [(end.request_id, end.finish_reason) for end in ends] == [
        ("1", FinishReason.CANCELLED),
        ("0", FinishReason.LENGTH),
    ]
    assert all(isinstance(end, StreamedOutput) for end in ends)
    assert list(ends[1].output_ids) == expected()[0] and engine.blocks.num_free_blocks == 20


# --- 8.4: errors ---


class Trouble(Exception):
    """What the tests let a step raise."""


def fail_in(monkeypatch, engine: FullEngine, where: str, calls: set[int] | range, after: bool = False) -> None:
    """Let the calls of these numbers raise, before or after the method has done its work."""
    work, count = getattr(engine, where), iter(range(10**6))

    def failing(*arguments):
        chosen = next(count) in calls
        if chosen and not after:
            raise Trouble(f"{where} has failed")
        result = work(*arguments)
        if chosen:
            raise Trouble(f"{where} has failed")
        return result

    monkeypatch.setattr(engine, where, failing)


@pytest.mark.exercise("8.4")
@pytest.mark.parametrize("asynchronous", [True, False], ids=["asynchronous", "synchronous"])
@pytest.mark.parametrize("where", ["prepare", "launch", "commit", "run_forward", "copy_out"])
def test_one_error_costs_nobody_a_token(monkeypatch, where: str, asynchronous: bool):
    """One call of one function raises, whichever it is and early or late: everybody gets exactly generate's tokens."""
    for call in (0, 5):
        for after in (False, True):
            engine = engine_on(asynchronous=asynchronous)
            fail_in(monkeypatch, engine, where, {call}, after)
            watch = Watch(engine).add_prompts().run()
            watch.assert_tokens(expected())
            assert not engine.stopped, f"the device is usable, and the engine has stopped: {engine.stopped}"
            assert not engine.in_flight, f"the engine is idle, and {len(engine.in_flight)} batches are in flight"


@pytest.mark.exercise("8.4")
@pytest.mark.parametrize("policy", ["lazy", "random:3", "threads"])
def test_the_device_is_waited_for_before_anything_is_forgotten(policy: str):
    """After an error slots and blocks are used again at once: no race, whatever the device had still to do."""
    for steps in (1, 3, 6):
        engine = engine_on(policy)
        watch = Watch(engine).add_prompts().run(steps=steps)
        engine.recover(Trouble("with a batch in flight"))
        watch.run().assert_tokens(expected())


@pytest.mark.exercise("8.4")
def test_errors_now_and_then_fail_nobody(monkeypatch):
    """Every fifth launch raises, and a batch is committed in between: that is never twice in a row."""
    engine = engine_on()
    fail_in(monkeypatch, engine, "launch", range(2, 1000, 5))
    watch = Watch(engine).add_prompts().run()
    watch.assert_tokens(expected())
    assert {end.finish_reason for end in watch.ended.values()} == {FinishReason.LENGTH}, (
        "failures that are not in a row ended a request; a committed step starts the count anew"
    )


@pytest.mark.exercise("8.4")
def test_errors_in_a_row_fail_those_that_run_once_each():
    """`recover` is called twice without a step in between: who ran has ended with one ERROR, who waited is served."""
    engine = engine_on(max_rows=3)
    watch = Watch(engine).add_prompts().run(steps=4)
    engine.recover(Trouble("the first time"))
    early = sorted(output.request_id for output in engine.outputs)
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
def test_errors_for_ever_end_everybody_and_the_engine_stands_still(monkeypatch):
    """If every launch raises, each request gets its ERROR, one after the other, and has_work becomes False."""
    engine = engine_on(max_rows=3)
    fail_in(monkeypatch, engine, "launch", range(1000))
    watch = Watch(engine).add_prompts().run()
    assert_all_failed(watch)
    assert not engine.stopped, "the device is usable, so the engine takes new requests"


@pytest.mark.exercise("8.4")
def test_errors_with_nobody_running_come_to_an_end(monkeypatch):
    """Requests cannot even be let in: they end one by one, each with its ERROR, and the engine comes to rest."""
    engine = engine_on()
    watch = Watch(engine).add_prompts()
    for _ in range(3):
        engine.recover(Trouble("prepare has failed"))
    watch.run()
    failed = sorted(name for name, end in watch.ended.items() if end.finish_reason is FinishReason.ERROR)
    assert failed == ["0", "1"], (
        f"three errors in a row with nobody running; from the second one on the first who waits ends. Ended: {failed}"
    )
    watch.assert_tokens(expected(), besides=("0", "1"))
    engine = engine_on()
    fail_in(monkeypatch, engine, "prepare", range(1000))
    assert_all_failed(Watch(engine).add_prompts().run())


@pytest.mark.exercise("8.4")
def test_nothing_is_in_flight_after_an_error():
    """The batch that is in flight when a step raises is forgotten: its slot is free, its rows are dropped."""
    engine = engine_on()
    watch = Watch(engine).add_prompts().run(steps=4)
    assert engine.in_flight
    engine.recover(Trouble("with a batch in flight"))
    assert not engine.in_flight, (
        f"{len(engine.in_flight)} batches are in flight after an error; their requests start anew, and the next batch "
        "takes a slot without asking for them"
    )
    running, waiting = len(engine.scheduler.running), len(engine.scheduler.waiting)
    assert (running, waiting) == (0, len(PROMPTS)), (
        f"after the error everybody waits to start anew, {len(PROMPTS)} requests; seen: {running} running, {waiting} "
        "waiting. (preempt changes the list `running`: go through a copy)"
    )
    watch.run().assert_tokens(expected())


@pytest.mark.exercise("8.4")
def test_a_lost_device_ends_everybody_and_says_so(monkeypatch):
    """After an operation that fails on the device, every request gets one ERROR, and new ones the advice to restart."""
    engine = engine_on(max_rows=3)
    forward, count = engine.forward, iter(range(1000))

    def failing(*arguments):
        if next(count) == 4:
            raise RuntimeError("index out of bounds, made up\nand a second line")
        return forward(*arguments)

    engine.box.forward = failing
    watch = Watch(engine).add_prompts().run()
    assert sorted(watch.ended) == sorted(watch.tokens), f"ended: {sorted(watch.ended)}"
    reasons = {end.finish_reason for end in watch.ended.values()}
    assert reasons == {FinishReason.ERROR}, f"the device is lost: everybody ends with ERROR, waiting or not; {reasons}"
    for name, end in watch.ended.items():
        assert "index out of bounds" in end.error, f"request {name} should say what has failed; it says {end.error!r}"
    with pytest.raises(UserError, match="restart the process"):
        engine.add_request("new", [5, 6], SamplingParams(max_tokens=2))
    assert "index out of bounds" in engine.stopped, f"`stopped` should say why; it says {engine.stopped!r}"
    assert "\n" not in engine.stopped, f"`stopped` is one line; it is {engine.stopped!r}"
    assert not engine.has_work and engine.step() == [], "the engine has stopped, and has work or outputs"


@pytest.mark.exercise("8.4")
def test_an_error_with_nobody_there(monkeypatch):
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
