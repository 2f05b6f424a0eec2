"""Exercise 8.2: requests that are taken back, wherever they are."""

import pytest

from ch02_continuous_batching import FinishReason, RequestStatus, SamplingParams
from ch07_carry_over.build import build as build_ch07
from ch08_full_engine import ServiceBook, StreamedTexts
from tests.ch08_full_engine.full_runs import NUM_BLOCKS, Watch, engine_on
from tests.helpers import swapped, tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator
from tests.words import counted, work_left

pytestmark = needs_simulator
STEPS = range(0, 14, 2)  # a run takes about so many; test_sweeps.py has all of them


@pytest.mark.exercise("8.2")
def test_a_running_request_ends():
    """Its blocks are free, its one output holds the tokens that it got, and a row in flight brings no other."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(1).run(steps=4)
    request = engine.book.requests["0"]
    got = len(request.output_ids)
    assert engine.in_flight, "a row of the request should be in flight"
    assert engine.cancel("0"), "the request runs, and cancel says that there is none of that name"
    assert request.status is RequestStatus.FINISHED and not engine.scheduler.running, f"status: {request.status}"
    assert engine.scheduler.blocks.num_free_blocks == NUM_BLOCKS, (
        f"{engine.scheduler.blocks.num_free_blocks} of {NUM_BLOCKS} blocks are free: they go back at once, rows in "
        "flight or not"
    )
    watch.run()
    output = watch.ended["0"]
    assert output.finish_reason is FinishReason.CANCELLED and len(output.output_ids) == got, (
        f"it was cancelled after {counted(got, 'token')}; its last output has {len(output.output_ids)} and the reason "
        f"{output.finish_reason}"
    )


@pytest.mark.exercise("8.2")
def test_a_waiting_request_ends():
    """It leaves the queue without having owned anything, and gets its output with the next step."""
    engine = engine_on(max_rows=1)
    watch = Watch(engine).add_prompts(3).run(steps=3)
    request = engine.book.requests["2"]
    try:
        cancelled = engine.cancel("2")
    except ValueError as error:
        pytest.fail(
            f"cancelling a request that waits raised ValueError: {error}. scheduler.finish is for a request that runs; "
            "one that waits is not in `running`, but in `waiting`"
        )
    assert cancelled, "the request waits, and cancel says that there is none of that name"
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
    request = engine.book.requests["1"]
    in_flight = any(row.request is request for batch, _ in engine.in_flight for row in batch.rows)
    assert in_flight, "after 3 steps no row of request '1' is in flight, and it has not ended"
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
    engine.book.end(engine.book.requests["0"], FinishReason.ERROR, "for a reason")
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
def test_ending_a_request_waits_for_nothing_in_flight():
    """A request ends while rows of it are in flight: the host does not wait, and these batches stay as they are."""
    from toolkit import simgpu

    engine = engine_on()
    watch = Watch(engine).add_prompts(3).run(steps=3)
    waits, in_flight = len(simgpu.synchronisations()), list(engine.in_flight)
    engine.cancel("1")
    seen = [f"{wait.what} at {wait.site}" for wait in simgpu.synchronisations()[waits:]]
    assert not seen, f"ending a request made the host wait for the device, which is a gap for all requests: {seen[0]}"
    assert list(engine.in_flight) == in_flight, "what is in flight is never touched; commit drops the row by its epoch"
    watch.run().assert_tokens(expected(), besides=("1",))


@pytest.mark.exercise("8.2")
def test_all_cancelled_in_flight():
    """With all requests gone, the batches in flight are still committed, and bring nothing."""
    engine = engine_on()
    watch = Watch(engine).add_prompts(4).run(steps=2)
    assert engine.in_flight, "a batch should be in flight"
    for name in list(engine.book.requests):
        engine.cancel(name)
    watch.run()
    reasons = {output.finish_reason for output in watch.ended.values()}
    assert reasons == {FinishReason.CANCELLED}, f"all four were cancelled; they ended with {reasons}"
    assert not engine.in_flight, f"no request is left, and there is still work: {work_left(engine)}"


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


def test_without_the_full_engine():
    """The book by itself, in an engine of chapter 7: cancel and the last output work."""
    from toolkit import simgpu

    simgpu.reset()
    build = swapped(build_ch07, RequestBook=ServiceBook, Texts=StreamedTexts)
    engine = build(tiny_model(), num_blocks=20, block_size=4)
    for i in range(2):
        engine.add_request(str(i), PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
    for _ in range(3):
        engine.step()
    engine.book.cancel("1")
    ends = []
    while engine.has_work:
        ends += [output for output in engine.step() if output.finish_reason is not None]
    assert [(end.request_id, end.finish_reason) for end in ends] == [
        ("1", FinishReason.CANCELLED),
        ("0", FinishReason.LENGTH),
    ]
    assert list(ends[1].output_ids) == expected()[0] and engine.scheduler.blocks.num_free_blocks == 20
