"""The bug museum, exercises 8.14 to 8.17: what becomes of a request while a batch of it is in flight. No races here."""

from typing import Any

import pytest

from ch02_continuous_batching import SamplingParams
from ch07_carry_over.build import build as chapter7
from tests.ch08_full_engine.museum_runs import add_prompts, assert_overlap, engine_on, exhibit, run_on, take
from tests.helpers import reference_outputs, shared_reference
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator, run_simulated

pytestmark = needs_simulator

every_step = pytest.mark.parametrize("step", range(1, MAX_TOKENS + 1))  # after the last one its last token is in flight


def preempt_at(engine: Any, *steps: int, wait: bool = False) -> dict[str, list[int]]:
    """Run some prompts; after these steps preempt the request that arrived last, with its batch in flight.

    It is let in again at once or, with `wait`, a step later: until then all free blocks are taken.
    """
    outputs: dict[str, list[int]] = {}
    add_prompts(engine, count=4)
    request, free, done = engine.book.requests["3"], engine.scheduler.blocks.free_blocks, 0
    try:
        for step in steps:
            while done < step:
                take(engine.step(), outputs)
                done += 1
            assert any(row.request is request for row in engine.in_flight[-1][0].rows), "no row of it is in flight"
            engine.scheduler.preempt(request)
        if wait:
            taken = list(free)
            free.clear()
            take(engine.step(), outputs)
            free.extend(taken)
        return run_on(engine, outputs)
    except ValueError as error:
        pytest.fail(
            f"request '3' was preempted after step {step}, with a row of it in flight, and then a step ended with "
            f"{type(error).__name__}: {error}. It waits, and commit has finished it all the same, as if it ran. What "
            "becomes of that row, and of its token?"
        )


def assert_preempted_right(outputs: dict[str, list[int]], step: int) -> None:
    for name, right in zip("0123", expected(), strict=False):
        seen = outputs[name]
        first = next((i for i, (a, b) in enumerate(zip(seen, right, strict=False)) if a != b), len(right))
        twice = 0 < first < len(seen) and seen[first] == seen[first - 1] and seen[:first] == right[:first]
        what = f"token {seen[first]} came twice, at places {first - 1} and {first}; " if twice else ""
        assert seen == right, (
            f"request {name!r}: {what}its tokens differ from generate's: {seen}, right is {right}. Request '3' was "
            f"preempted after step {step}, while a batch with a row of it was in flight. What becomes of that row, and "
            "of its token?"
        )


# --- 8.14 ---


@pytest.mark.exercise("8.14")
@pytest.mark.parametrize("end", range(MAX_TOKENS - 1))
def test_a_name_that_is_used_again_gets_its_own_answer(end: int):
    """A request with the name of one that has just ended, wherever it ended, gets the tokens of its own prompt."""
    engine = engine_on(exhibit("short_map"))
    engine.book.eos_ids = {expected()[0][end]}
    right = expected()[0][: expected()[0].index(expected()[0][end]) + 1]
    add_prompts(engine, count=1)
    first: dict[str, list[int]] = {}
    while engine.scheduler.running or engine.scheduler.waiting:
        take(engine.step(), first)
    engine.add_request("0", PROMPTS[1], SamplingParams(max_tokens=MAX_TOKENS, ignore_eos=True))
    second = run_on(engine)
    assert first == {"0": right}, f"the first request '0' should get {right}, seen: {first}"
    assert second == {"0": expected()[1]}, (
        f"the first request '0' ended with an end-of-sequence token; a second one '0', with another prompt, came at "
        f"once. Its tokens should be {expected()[1]}, seen: {second['0']}. A row of the first was still in flight: was "
        "its token put in the place of the last token of its prompt?"
    )


@pytest.mark.exercise("8.14")
def test_a_prompt_of_one_token_is_no_token_in_flight():
    """A request whose prompt is a single token, with the name of one that has just ended, computes its own token."""
    engine = engine_on(exhibit("short_map"))
    engine.book.eos_ids = {expected()[0][3]}
    add_prompts(engine, count=1)
    while engine.scheduler.running or engine.scheduler.waiting:
        engine.step()
    engine.add_request("0", [7], SamplingParams(max_tokens=4, ignore_eos=True))
    seen, right = run_on(engine)["0"], reference_outputs(shared_reference(), [[7]], 4)[0]
    assert seen == right, (
        "a request '0' with the one token 7 as prompt came right after another request '0' had ended: its tokens "
        f"should be {right}, and differ from generate's: {seen}. A row of the first was still in flight: was its token "
        "put in the place of the last token of its prompt?"
    )


@pytest.mark.exercise("8.14")
@every_step
def test_a_preempted_request_carries_nothing_over(step: int):
    """A request that is preempted and comes back at once recomputes what is known, and takes no token in flight."""
    outputs = preempt_at(engine_on(exhibit("short_map")), step)
    assert_preempted_right(outputs, step)


@pytest.mark.exercise("8.14")
def test_the_short_map_overlaps():
    """Tokens in flight are still carried over: the engine is as fast as chapter 7's, and its tokens are right."""
    seen = run_simulated(exhibit("short_map"))
    assert seen.outputs == expected(), f"the tokens differ from generate's: {seen.outputs}"
    assert_overlap(seen, chapter7)


# --- 8.15 ---


@pytest.mark.exercise("8.15")
@every_step
def test_a_preempted_request_loses_and_repeats_nothing(step: int):
    """Whenever a request is preempted, with a row of it in flight, it ends with generate's tokens, each once."""
    outputs = preempt_at(engine_on(exhibit("counted_preemption")), step)
    assert_preempted_right(outputs, step)


@pytest.mark.exercise("8.15")
@every_step
def test_a_preempted_request_that_has_to_wait(step: int):
    """The same where there is no room for it at once: its row is committed while it waits."""
    outputs = preempt_at(engine_on(exhibit("counted_preemption")), step, wait=True)
    assert_preempted_right(outputs, step)


@pytest.mark.exercise("8.15")
@pytest.mark.parametrize("again", range(2, 6))
def test_a_request_that_is_preempted_twice_repeats_nothing(again: int):
    """It comes back, and is preempted once more with a row of its second life in flight."""
    outputs = preempt_at(engine_on(exhibit("counted_preemption")), 2, 2 + again)
    assert_preempted_right(outputs, 2 + again)


@pytest.mark.exercise("8.15")
@pytest.mark.parametrize("num_blocks", [6, 10, 12])
def test_under_lack_of_memory_everybody_gets_their_tokens(num_blocks: int):
    """With few blocks, requests preempt each other again and again; all tokens are right, and the waste is counted."""
    engine = engine_on(exhibit("counted_preemption"), num_blocks=num_blocks, token_budget=12)
    add_prompts(engine)
    outputs = run_on(engine)
    wrong = {name: tokens for name, tokens in outputs.items() if tokens != expected()[int(name)]}
    assert not wrong, (
        f"with {num_blocks} blocks, in which requests preempt each other, the tokens of {sorted(wrong)} differ from "
        f"generate's: request {next(iter(wrong))!r} got {next(iter(wrong.values()))}, "
        f"right is {expected()[int(next(iter(wrong)))]}"
    )
    assert engine.scheduler.wasted_tokens > 0, "requests were preempted, and the scheduler has counted nothing"
    free = engine.scheduler.blocks.num_free_blocks
    assert free == num_blocks, f"{num_blocks - free} of {num_blocks} blocks are still taken when all is over"


# --- 8.16 ---


def steps(engine: Any, when: str, count: int = 3) -> list[Any]:
    """The results of some steps; an exception becomes a failure that says when it came."""
    advance, prepare, idle = type(engine).advance, type(engine).prepare, 0

    def checked_advance() -> list[Any]:
        outputs = advance(engine)
        if not isinstance(outputs, list):
            pytest.fail(
                f"step() of an engine {when} returned {outputs}: it returns a list, an empty one if it has none"
            )
        return outputs

    def checked_prepare() -> Any:
        nonlocal idle
        batch = prepare(engine)
        idle = idle + 1 if batch is None else 0
        if idle == 50:
            pytest.fail(
                f"step() of an engine {when} goes on for ever: it has called prepare() 50 times, which said None"
            )
        return batch

    engine.advance, engine.prepare = checked_advance, checked_prepare
    try:
        return [output for _ in range(count) for output in engine.step()]
    except (AttributeError, IndexError, TypeError) as error:
        pytest.fail(
            f"step() of an engine {when} ended with {type(error).__name__}: {error}. prepare() returns None when "
            "there is nothing to launch"
        )


@pytest.mark.exercise("8.16")
def test_an_engine_may_start_before_its_first_request():
    """With an empty queue a step does nothing; the request that comes later is served."""
    engine = engine_on(exhibit("warm_start"))
    assert steps(engine, "that has not had a request yet") == [], "step() on an engine without requests brings nothing"
    assert engine.num_steps == 0, f"step() on an engine without requests launched {engine.num_steps} batches"
    add_prompts(engine, count=1)
    outputs = run_or_fail(engine, "whose first request came late")
    assert outputs == {"0": expected()[0]}, f"the late request should get {expected()[0]}, seen: {outputs}"


def run_or_fail(engine: Any, when: str) -> dict[str, list[int]]:
    outputs: dict[str, list[int]] = {}
    for _ in range(100):
        take(steps(engine, when, count=1), outputs)
        if not engine.has_work:
            return outputs
    raise AssertionError(f"step() of an engine {when} was called 100 times, and there is still work")


@pytest.mark.exercise("8.16")
def test_an_engine_may_run_out_of_requests_and_start_again():
    """The last batch in flight is committed, then steps do nothing, and the next request starts all over."""
    engine = engine_on(exhibit("warm_start"))
    for i in range(2):
        engine.add_request(str(i), PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
        outputs = run_or_fail(engine, "that is running out of requests")
        assert outputs == {str(i): expected()[i]}, f"request {i} should get {expected()[i]}, seen: {outputs}"
        more = steps(engine, "that has run out of requests")
        assert more == [], f"step() without requests brings nothing; seen: {more}"
    free, in_flight = engine.scheduler.blocks.num_free_blocks, len(engine.in_flight)
    assert free == 80 and not in_flight, f"all is over; free are {free} of 80 blocks, in flight {in_flight} batches"


@pytest.mark.exercise("8.16")
def test_a_request_of_one_token_is_alone():
    """One request that ends with its first token: there is no second batch to launch."""
    engine = engine_on(exhibit("warm_start"))
    engine.add_request("0", PROMPTS[0], SamplingParams(max_tokens=1))
    outputs = run_or_fail(engine, "with a request of a single token")
    assert outputs == {"0": expected()[0][:1]}, f"the request should get {expected()[0][:1]}, seen: {outputs}"


@pytest.mark.exercise("8.16")
def test_the_warm_start_overlaps():
    """The warm start is kept: two batches in flight after the first step, and no time lost."""
    engine = engine_on(exhibit("warm_start"))
    add_prompts(engine)
    steps(engine, "that has just been started", count=1)
    launched = engine.num_steps
    assert launched == 2, f"the first step of a warm start launches 2 batches; seen: {launched}"
    try:
        seen = run_simulated(exhibit("warm_start"))
    except AttributeError as error:
        pytest.fail(f"step() of an engine that has nothing left to launch ended with AttributeError: {error}")
    assert_overlap(seen, chapter7)


# --- 8.17 ---


def hang_up_at(step: int) -> tuple[dict[str, list[Any]], dict[str, list[Any]], Any]:
    """Run requests of two users, a and b; a hangs up after so many steps. Outputs by request, before and after."""
    engine = engine_on(exhibit("hang_up"), max_rows=3)
    for i in range(5):
        engine.add_request(f"{'ab'[i % 2]}/{i}", PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
    before: dict[str, list[Any]] = {}
    after: dict[str, list[Any]] = {}
    for number in range(100):
        if number == step:
            engine.book.hang_up("a/")
        if not engine.has_work:
            return before, after, engine
        for output in engine.step():
            (after if number >= step else before).setdefault(output.request_id, []).append(output)
    raise AssertionError("after 100 steps there is still work")


def describe(outputs: list[Any]) -> str:
    each = [
        f"tokens {list(o.new_token_ids)}, {o.finish_reason.value if o.finish_reason else 'goes on'}" for o in outputs
    ]
    return "; ".join(each) or "nothing at all"


@pytest.mark.exercise("8.17")
@pytest.mark.parametrize("step", range(MAX_TOKENS + 2))
def test_who_hangs_up_gets_one_last_output(step: int):
    """Whenever a user hangs up, each request of theirs gets exactly one more output: cancelled, and no token."""
    before, after, engine = hang_up_at(step)
    for name in ("a/0", "a/2", "a/4"):
        if any(output.finish_reason for output in before.get(name, [])):
            assert name not in after, f"request {name!r} had ended, and then came: {describe(after[name])}"
            continue
        assert_one_last_output(name, after.get(name, []), f"after step {step}")
    assert_names_are_free(engine)


def assert_one_last_output(name: str, seen: list[Any], when: str) -> None:
    """What came once the request was taken back."""
    if not seen:
        cause = ". Who makes the output, if no batch brings one?"
    elif any(output.new_token_ids for output in seen):
        cause = ". A row of it was in flight, and was not dropped: by what does commit know that it must be?"
    else:
        cause = ""
    right = len(seen) == 1 and seen[0].finish_reason and seen[0].finish_reason.value == "cancelled"
    assert right and not seen[0].new_token_ids, (
        f"request {name!r} was taken back {when}; from then on its caller should get exactly one output, without "
        f"a token and with the reason 'cancelled'. Seen: {describe(seen)}{cause}"
    )


def assert_names_are_free(engine: Any) -> None:
    taken = sorted(name for name in engine.book.requests if name.startswith("a/"))
    assert not taken, (
        f"user a's requests have ended, and the names {taken} are still in `requests`: they are free again"
    )
    seen = engine.book.hang_up("a/")
    assert seen == 0, f"user a has no requests any more; hanging up again took back {seen}"


@pytest.mark.exercise("8.17")
def test_preempted_in_flight_and_then_hung_up():
    """A request waits again, preempted a moment ago, when its user hangs up: it brings one output and no token."""
    engine = engine_on(exhibit("hang_up"))
    for i, name in enumerate(("b/0", "a/1")):
        engine.add_request(name, PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
    for _ in range(3):
        engine.step()
    request = engine.book.requests["a/1"]
    assert any(row.request is request for row in engine.in_flight[-1][0].rows), "no row of the request is in flight"
    engine.scheduler.preempt(request)
    engine.book.hang_up("a/")
    after: dict[str, list[Any]] = {}
    for _ in range(100):
        if not engine.has_work:
            break
        for output in engine.step():
            after.setdefault(output.request_id, []).append(output)
    assert_one_last_output("a/1", after.get("a/1", []), "while it waited, preempted with a row of it in flight")
    assert_names_are_free(engine)


@pytest.mark.exercise("8.17")
@pytest.mark.parametrize("step", range(MAX_TOKENS + 2))
def test_nobody_else_notices(step: int):
    """The other user's requests get all their tokens, and in the end every block is free."""
    before, after, engine = hang_up_at(step)
    for i in (1, 3):
        outputs = before.get(f"b/{i}", []) + after.get(f"b/{i}", [])
        tokens = [token for output in outputs for token in output.new_token_ids]
        assert tokens == expected()[i], (
            f"user a hung up after step {step}; request 'b/{i}' should get exactly one output for each of its tokens "
            f"{expected()[i]}, seen: {tokens}"
        )
    free, total = engine.scheduler.blocks.num_free_blocks, engine.entrance.config.num_blocks
    assert free == total, f"{total - free} of {total} blocks are still taken when all is over"
