"""The bug museum, exercises 8.14 to 8.17: what becomes of a request while a batch of it is in flight. No races here."""

from collections.abc import Sequence
from typing import Any

import pytest

from ch02_continuous_batching import Request, RequestStatus, Row, SamplingParams
from ch07_carry_over.build import build as chapter7
from tests.causes import likely
from tests.ch08_full_engine.museum_runs import (
    add_prompts,
    assert_all_tokens_right,
    assert_overlap,
    engine_on,
    exhibit,
    failed,
    in_short,
    run_on,
    take,
)
from tests.ch08_full_engine.preempted import check_preempted_at, preempt
from tests.helpers import reference_outputs, shared_reference
from tests.simulated import MAX_TOKENS, PROMPTS, expected, needs_simulator, run_simulated
from tests.words import counted, work_left

pytestmark = needs_simulator

every_step = pytest.mark.parametrize("step", range(1, MAX_TOKENS + 1))  # after the last one its last token is in flight


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
        f"once. Its tokens should be {expected()[1]}, seen: {second.get('0')}. {whose_token(second, expected()[1])}"
    )


def whose_token(outputs: dict[str, list[int]], right: list[int]) -> str:
    """What to look at where a request '0' got wrong tokens that came while a row of an earlier one was in flight."""
    carried = outputs.get("0", [])[:1] == right[:1]
    return likely(
        (carried, "Its first token is right, and a later one is not: is each token that is in flight carried over?"),
        otherwise="A row of an earlier life was still in flight: was its token put in the place of the last token of "
        "its prompt?",
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
    outputs, right = run_on(engine), one_token_right()
    assert outputs.get("0") == right, (
        "a request '0' with the one token 7 as prompt came right after another request '0' had ended: its tokens "
        f"should be {right}, and differ from generate's: {outputs.get('0')}. {whose_token(outputs, right)}"
    )


def one_token_right() -> list[int]:
    """What `generate` gives for the prompt [7]."""
    return reference_outputs(shared_reference(), [[7]], 4)[0]


@pytest.mark.exercise("8.14")
def test_a_prompt_of_one_token_that_is_preempted():
    """A request whose prompt is a single token is preempted before it has any other: it takes no token in flight."""
    engine = engine_on(exhibit("short_map"))
    engine.add_request("0", [7], SamplingParams(max_tokens=4))
    outputs: dict[str, list[int]] = {}
    take(engine.step(), outputs)
    assert engine.in_flight, "no row of the request is in flight"
    engine.scheduler.preempt(engine.book.requests["0"])
    run_on(engine, outputs)
    assert outputs.get("0") == one_token_right(), (
        "a request with the one token 7 as prompt was preempted while its first row was in flight. Its tokens should "
        f"be {one_token_right()}, and differ from generate's: {outputs.get('0')}. "
        f"{whose_token(outputs, one_token_right())}"
    )


@pytest.mark.exercise("8.14")
@every_step
def test_a_preempted_request_carries_nothing_over(step: int):
    """A request that is preempted and comes back at once recomputes what is known, and takes no token in flight."""
    check_preempted_at(engine_on(exhibit("short_map")), step)


@pytest.mark.exercise("8.14")
@pytest.mark.overlap
def test_the_short_map_overlaps():
    """Tokens in flight are still carried over: the engine is as fast as chapter 7's, and its tokens are right."""
    seen = run_simulated(exhibit("short_map"))
    assert_all_tokens_right({str(i): tokens for i, tokens in enumerate(seen.outputs)})
    assert_overlap(seen, chapter7)


# --- 8.15 ---


@pytest.mark.exercise("8.15")
@every_step
def test_a_preempted_request_loses_and_repeats_nothing(step: int):
    """Whenever a request is preempted, with a row of it in flight, it ends with generate's tokens, each once."""
    check_preempted_at(engine_on(exhibit("counted_preemption")), step)


@pytest.mark.exercise("8.15")
@every_step
def test_a_preempted_request_that_has_to_wait(step: int):
    """The same where there is no room for it at once: its row is committed while it waits."""
    check_preempted_at(engine_on(exhibit("counted_preemption")), step, wait=True)


@pytest.mark.exercise("8.15")
@pytest.mark.parametrize("again", range(2, 6))
def test_a_request_that_is_preempted_twice_repeats_nothing(again: int):
    """It comes back, and is preempted once more with a row of its second life in flight."""
    check_preempted_at(engine_on(exhibit("counted_preemption")), 2, 2 + again)


@pytest.mark.exercise("8.15")
@pytest.mark.parametrize("num_blocks", [6, 10, 12])
def test_under_lack_of_memory_all_requests_get_their_tokens(num_blocks: int):
    """With few blocks, requests preempt each other again and again; all tokens are right, and the waste is counted."""
    engine = engine_on(exhibit("counted_preemption"), num_blocks=num_blocks, token_budget=12)
    scheduler, method, wasted, cause = engine.scheduler, engine.scheduler.preempt, 0, ""

    def counted_preempt(request: Request) -> None:
        nonlocal wasted, cause
        wasted += request.num_computed_tokens
        left = preempt(scheduler, method, request)
        cause = cause or left
        if request in scheduler.running:
            pytest.fail(
                f"preempt has returned, and request {request.request_id!r} is still in `running`. It is called "
                "where a block is needed, and again until there is one: that would not end"
            )

    scheduler.preempt = counted_preempt
    add_prompts(engine)
    when = f"with {num_blocks} blocks, in which requests preempt each other,"
    try:
        outputs = run_on(engine)
    except AssertionError as error:
        raise failed(f"{when} {error}{cause}", error) from error
    except Exception as error:
        raise failed(f"{when} a step ended with {in_short(error)}{cause}", error) from error
    right = {str(i): tokens for i, tokens in enumerate(expected())}
    wrong = [name for name in right if outputs.get(name) != right[name]]
    assert not wrong, (
        f"{when} the tokens of {wrong} differ from generate's: request {wrong[0]!r} got {outputs.get(wrong[0])}, right "
        f"is {right[wrong[0]]}{cause}"
    )
    assert scheduler.wasted_tokens == wasted > 0, (
        f"requests were preempted with {counted(wasted, 'computed token')} in all (`num_computed_tokens`); the "
        f"scheduler has counted {scheduler.wasted_tokens}"
    )
    free = scheduler.blocks.num_free_blocks
    assert free == num_blocks, f"{num_blocks - free} of {num_blocks} blocks are still taken when all is over{cause}"


# --- 8.16 ---


def steps(engine: Any, when: str, count: int = 3) -> list[Any]:
    """The results of some steps; an exception becomes a failure that says when it came."""
    advance, prepare, idle = type(engine).advance, type(engine).prepare, 0

    def checked_advance() -> list[Any]:
        outputs = advance(engine)
        if not isinstance(outputs, Sequence):
            pytest.fail(
                f"in a step() of an engine {when}, advance returned {outputs}: it returns outputs, an empty list if "
                "there "
                "are none"
            )
        return outputs

    def checked_prepare() -> Any:
        nonlocal idle
        batch = prepare(engine)
        idle = idle + 1 if batch is None else 0
        if idle == 50:
            pytest.fail(
                f"step() of an engine {when} goes on forever: it has called prepare() 50 times, which said None"
            )
        return batch

    engine.advance, engine.prepare = checked_advance, checked_prepare
    try:
        return [output for _ in range(count) for output in engine.step()]
    except (AttributeError, IndexError, TypeError) as error:
        raise failed(
            f"step() of an engine {when} ended with {type(error).__name__}: {error}. prepare() returns None when "
            "there is nothing to launch",
            error,
        ) from error


@pytest.mark.exercise("8.16")
def test_an_engine_may_start_before_its_first_request():
    """With an empty queue a step does nothing; the request that comes later is served."""
    engine = engine_on(exhibit("warm_start"))
    assert steps(engine, "that has not had a request yet") == [], "step() on an engine without requests brings nothing"
    assert engine.num_steps == 0, (
        f"step() on an engine without requests launched {counted(engine.num_steps, 'batch', 'batches')}"
    )
    add_prompts(engine, count=1)
    outputs = run_or_fail(engine, "whose first request came late")
    assert outputs == {"0": expected()[0]}, f"the late request should get {expected()[0]}, seen: {outputs}"


def run_or_fail(engine: Any, when: str) -> dict[str, list[int]]:
    outputs: dict[str, list[int]] = {}
    for _ in range(100):
        take(steps(engine, when, count=1), outputs)
        if not engine.has_work:
            return outputs
    raise AssertionError(
        f"step() of an engine {when} was called 100 times, and there is still work: {work_left(engine)}"
        + likely((bool(engine.in_flight), ". Who commits what is in flight when there is nothing to launch?"))
    )


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
    assert free == 80 and not in_flight, (
        f"all is over; free are {free} of 80 blocks, and {counted(in_flight, 'batch is', 'batches are')} in flight"
    )


@pytest.mark.exercise("8.16")
def test_a_request_of_one_token_is_alone():
    """One request that ends with its first token: there is no second batch to launch."""
    engine = engine_on(exhibit("warm_start"))
    engine.add_request("0", PROMPTS[0], SamplingParams(max_tokens=1))
    outputs = run_or_fail(engine, "with a request of a single token")
    assert outputs == {"0": expected()[0][:1]}, f"the request should get {expected()[0][:1]}, seen: {outputs}"


@pytest.mark.exercise("8.16")
@pytest.mark.overlap
def test_the_warm_start_overlaps():
    """The warm start is kept: two batches in flight after the first step, and no time lost."""
    engine = engine_on(exhibit("warm_start"))
    add_prompts(engine)
    steps(engine, "that has just been started", count=1)
    launched = engine.num_steps
    assert launched == 2, f"the first step of a warm start launches 2 batches; seen: {launched}"
    run_or_fail(engine, "that has nothing left to launch")
    assert_overlap(run_simulated(exhibit("warm_start")), chapter7)


# --- 8.17 ---


NAMES = ["a/0", "b/1", "a/2", "ba/3", "a/4"]  # of two users; what user a's begin with may stand in another's, too


class Served:
    """An engine, and what it has brought: its outputs by request, before user a hangs up and after."""

    def __init__(self, **limits: Any) -> None:
        self.engine = engine_on(exhibit("hang_up"), **limits)
        self.before: dict[str, list[Any]] = {}
        self.after: dict[str, list[Any]] = {}
        self.causes: dict[str, str] = {}  # by request: what hang_up has left as it should not be
        self.when = ""

    def step(self) -> None:
        outputs = self.after if self.when else self.before
        for output in self.engine.step():
            outputs.setdefault(output.request_id, []).append(output)

    def hang_up(self, when: str) -> None:
        requests = list(self.engine.book.requests.values())
        count = sum(request.request_id.startswith("a/") for request in requests)
        states = {request.request_id: request.status.value for request in requests}
        try:
            said = self.engine.book.hang_up("a/")
        except Exception as error:
            raise failed(
                f"user a hung up {when}, and hang_up ended with {in_short(error)}. The requests were {states}", error
            ) from error
        assert said == count, (
            f"user a hung up {when} with {counted(count, 'request')}; hang_up says that there were {said}"
        )
        self.when = when
        rows = [row for batch, _ in self.engine.in_flight for row in batch.rows]
        for request in requests:
            cause = still_served if request.request_id.startswith("a/") else served_no_more
            self.causes[request.request_id] = cause(request, [row for row in rows if row.request is request])

    def finish(self) -> None:
        """Step until there is no work. A step that raises becomes a failure that says what came before."""
        for _ in range(100):
            if not self.engine.has_work:
                return
            try:
                self.step()
            except Exception as error:
                raise failed(
                    f"user a hung up {self.when}, and then a step ended with {in_short(error)}. Each "
                    "request of user a should get exactly one output, without a token, and the other user's should "
                    f"go on{next(filter(None, self.causes.values()), '')}",
                    error,
                ) from error
        raise AssertionError(f"user a hung up {self.when}; 100 steps later there is still work")


def still_served(request: Request, rows: list[Row]) -> str:
    """Why a request that was just taken back may get a token all the same. rows: its own, in flight."""
    kept = any(row.epoch == request.epoch for row in rows)
    waits = request.status is not RequestStatus.FINISHED
    return likely(
        (waits, f". After hang_up the request {request.request_id!r} was still {request.status.value}"),
        (
            kept,
            f". A row of {request.request_id!r} was in flight, and was not dropped: by what does commit know that it "
            "must be?",
        ),
    )


def served_no_more(request: Request, rows: list[Row]) -> str:
    """Why a request that was not taken back may miss a token. rows: its own, in flight."""
    dropped = any(row.epoch != request.epoch for row in rows)
    return likely((dropped, f". A row of {request.request_id!r} was in flight, and is dropped, though it goes on"))


def hang_up_at(step: int) -> Served:
    """Run requests of two users, a and b; a hangs up after so many steps."""
    served = Served(max_rows=3)
    for i in range(5):
        served.engine.add_request(NAMES[i], PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
    for _ in range(step):
        if served.engine.has_work:
            served.step()
    served.hang_up(f"after step {step}")
    served.finish()
    return served


def describe(outputs: list[Any]) -> str:
    each = [
        f"tokens {list(o.new_token_ids)}, {o.finish_reason.value if o.finish_reason else 'goes on'}" for o in outputs
    ]
    return "; ".join(each) or "nothing at all"


@pytest.mark.exercise("8.17")
@pytest.mark.parametrize("step", range(MAX_TOKENS + 2))
def test_who_hangs_up_gets_one_last_output(step: int):
    """Whenever a user hangs up, each request of theirs gets exactly one more output: cancelled, and no token."""
    served = hang_up_at(step)
    for name in ("a/0", "a/2", "a/4"):
        if any(output.finish_reason for output in served.before.get(name, [])):
            assert name not in served.after, (
                f"request {name!r} had ended, and then came: {describe(served.after[name])}"
            )
            continue
        assert_one_last_output(name, served)
    assert_names_are_free(served.engine)


def assert_one_last_output(name: str, served: Served) -> None:
    """What came once the request was taken back."""
    seen = served.after.get(name, [])
    cause = likely(
        (not seen, ". Who makes the output, if no batch brings one?"),
        (any(output.new_token_ids for output in seen), served.causes.get(name, "")),
    )
    right = len(seen) == 1 and seen[0].finish_reason and seen[0].finish_reason.value == "cancelled"
    assert right and not seen[0].new_token_ids, (
        f"request {name!r} was taken back {served.when}; from then on its caller should get exactly one output, "
        f"without a token and with the reason 'cancelled'. Seen: {describe(seen)}{cause}"
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
    served = Served()
    engine = served.engine
    for i, name in enumerate(("b/0", "a/1")):
        engine.add_request(name, PROMPTS[i], SamplingParams(max_tokens=MAX_TOKENS))
    for _ in range(3):
        served.step()
    request = engine.book.requests["a/1"]
    assert any(row.request is request for row in engine.in_flight[-1][0].rows), "no row of the request is in flight"
    engine.scheduler.preempt(request)
    served.hang_up("while it waited, preempted with a row of it in flight")
    served.finish()
    assert_one_last_output("a/1", served)
    assert_names_are_free(engine)


@pytest.mark.exercise("8.17")
@pytest.mark.parametrize("step", range(MAX_TOKENS + 2))
def test_no_other_request_notices(step: int):
    """The other user's requests get all their tokens, and in the end every block is free."""
    served = hang_up_at(step)
    for i in (1, 3):
        outputs = served.before.get(NAMES[i], []) + served.after.get(NAMES[i], [])
        tokens = [token for output in outputs for token in output.new_token_ids]
        assert tokens == expected()[i], (
            f"user a hung up after step {step}; request {NAMES[i]!r} should get exactly one output for each of its "
            f"tokens {expected()[i]}, seen: {tokens}"
        )
    free, total = served.engine.scheduler.blocks.num_free_blocks, served.engine.entrance.config.num_blocks
    assert free == total, f"{total - free} of {total} blocks are still taken when all is over"
