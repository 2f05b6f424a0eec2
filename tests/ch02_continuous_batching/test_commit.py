"""Exercise 2.5: committing a step."""

from collections.abc import Iterator

import pytest

from ch02_continuous_batching import Engine, FinishReason, Request, RequestBook, RequestStatus, SamplingParams
from ch02_continuous_batching.build import build
from tests.causes import likely
from tests.ch02_continuous_batching.idle import assert_idle
from tests.endless import must_end
from tests.helpers import (
    random_prompts,
    reference_outputs,
    shared_reference,
    swapped,
    tiny_model,
    tiny_tokenizer,
)
from tests.words import counted

pytestmark = pytest.mark.exercise("2.5")
PROMPTS = random_prompts(10)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    """What `generate` makes of the first prompt."""
    return reference_outputs(shared_reference(), PROMPTS[:1], 20)


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """The longest of these tests needs 5,000 lines of the chapter."""
    with must_end():
        yield


class WatchedBook(RequestBook):
    """Says so where a token is missing, or a request is not finished, instead of what becomes of it."""

    def finish_reason(self, request):
        assert request.output_ids, "finish_reason looks at the newest token, but output_ids is empty: append it before"
        return super().finish_reason(request)

    def last_output(self, request, *arguments, **options):
        assert self.requests.get(request.request_id) is request, (
            f"request {request.request_id} has had its last output, and one more token has come for it. "
        ) + likely(
            (request.status is RequestStatus.RUNNING, "It still runs: call scheduler.finish(request) when it ends."),
            otherwise="Rows whose epoch is not the request's any more are dropped.",
        )
        return super().last_output(request, *arguments, **options)


class Limited(Engine):
    """Ends a loop that never does after 100 steps, four times as many as any test of the exercise needs."""

    def step(self):
        if self.num_steps >= 100:
            request = self.scheduler.running[0]
            pytest.fail(
                f"after 100 steps request {request.request_id} still runs, with "
                f"{counted(len(request.output_ids), 'token')} of "
                f"max_tokens={request.params.max_tokens} and finish_reason {request.finish_reason}. "
                + likely(
                    (request.finish_reason is not None, "It has a reason: call scheduler.finish(request)."),
                    (not request.output_ids, "It gets no token: every row is dropped, or nothing is appended."),
                    otherwise="Either finish_reason() gives none, or it is not stored in request.finish_reason.",
                )
            )
        return super().step()


limited = swapped(build, Engine=Limited, RequestBook=WatchedBook)

STOP = chr(32 + 6)  # token 6 of the tests' tokenizer
REASONS = {
    "1 of 3 tokens": ([5], {}, None, "it has 1 token of 3 (prompt tokens don't count)"),
    "3 of 3 tokens": ([5, 5, 5], {}, FinishReason.LENGTH, "it has its 3 tokens of 3, and one more would be too many"),
    "the first of three eos": ([5, 7], {}, FinishReason.EOS, "its newest token is 7, and each of the three ids counts"),
    "the second of three eos": (
        [5, 8],
        {},
        FinishReason.EOS,
        "its newest token is 8, and each of the three ids counts",
    ),
    "the third of three eos": ([5, 9], {}, FinishReason.EOS, "its newest token is 9, and each of the three ids counts"),
    "eos ignored": ([5, 9], {"ignore_eos": True}, None, "it may go on after 9, and has 2 tokens of 3"),
    "eos ignored, limit": (
        [5, 9, 9],
        {"ignore_eos": True},
        FinishReason.LENGTH,
        "it has its 3 tokens of 3; ignore_eos does not lift the limit",
    ),
    "eos and limit": ([5, 5, 7], {}, FinishReason.EOS, "the end-of-sequence token counts before the limit"),
    "stop": ([5, 6], {"stop": ("no", STOP)}, FinishReason.STOP, f"its text contains the stop string {STOP!r}"),
    "stop and limit": ([5, 5, 6], {"stop": (STOP,)}, FinishReason.STOP, "a stop string counts before the limit"),
    "eos and stop": (
        [6, 7],
        {"stop": (STOP,)},
        FinishReason.EOS,
        "an end-of-sequence token counts before a stop string",
    ),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_to_end(model, case):
    """A request ends with an end-of-sequence token, else with a stop string, else with its max_tokens-th token."""
    output_ids, params, reason, because = REASONS[case]
    engine = limited(model, tiny_tokenizer())
    engine.book.eos_ids = {7, 8, 9}
    request = Request("a", [1, 2, 3], SamplingParams(max_tokens=3, **params), 0, output_ids=output_ids)
    seen = engine.book.finish_reason(request)
    assert seen is reason, (
        f"output {output_ids}, max_tokens=3, end-of-sequence tokens 7, 8 and 9, {params or 'nothing else'}: "
        f"finish_reason should be {reason}, for {because}; seen: {seen!r}"
    )


def test_tokens_reach_their_requests(model):
    """Each sampled token is appended to the request of its row, and the step's outputs say so."""
    engine = limited(model)
    requests = [engine.add_request(name, PROMPTS[i], SamplingParams(max_tokens=9)) for i, name in enumerate("ab")]
    batch = engine.prepare()
    outputs = engine.book.commit_tokens(batch, [41, 42])
    seen = {request.request_id: request.output_ids for request in requests}
    assert seen == {"a": [41], "b": [42]}, f"a sampled 41 and b 42; seen: {seen}. " + likely(
        (
            seen == {"a": [], "b": []},
            "Nothing was appended: the rows' epochs are the requests', so none is to be dropped",
        ),
    )
    brought = [(output.request_id, output.new_token_ids) for output in outputs]
    assert brought == [("a", (41,)), ("b", (42,))], (
        f"each row that is not dropped makes an output, whether or not its request has ended; seen: {brought}"
    )
    reasons = [output.finish_reason for output in outputs]
    assert reasons == [None, None], f"each has 1 token of 9, so neither has a reason to end; seen: {reasons}"
    assert [request.epoch for request in requests] == [0, 0], (
        "a token that arrives drops nothing else: the epoch advances when a request finishes or is preempted, and "
        f"scheduler.finish sees to it; seen: {[request.epoch for request in requests]}"
    )
    pending = [request.pending_samples for request in requests]
    assert pending == [0, 0], f"both samples have arrived, so none is pending; the requests say {pending}"


def test_one_sample_has_arrived(model):
    """From chapter 5 on further samples may be on their way; a token that arrives is one of them."""
    engine = limited(model)
    request = engine.add_request("a", PROMPTS[0], SamplingParams(max_tokens=9))
    batch = engine.prepare()
    request.pending_samples += 1  # as if a second batch were in flight
    engine.book.commit_tokens(batch, [41])
    assert request.pending_samples == 1, (
        f"two samples were on their way and one has arrived, so one is pending; the request says "
        f"{request.pending_samples}: is it set, or counted down?"
    )


@pytest.mark.parametrize("back_already", [False, True])
def test_a_row_of_an_old_epoch_is_dropped(model, back_already):
    """A token for a request that was preempted in flight is dropped, even if the request runs again by then."""
    engine = limited(model)
    a, b = (engine.add_request(name, PROMPTS[i], SamplingParams(max_tokens=9)) for i, name in enumerate("ab"))
    batch = engine.prepare()
    engine.scheduler.preempt(a)
    if back_already:
        engine.prepare()  # a is admitted again, and its new row is in flight too
    outputs = engine.book.commit_tokens(batch, [41, 42])
    assert a.output_ids == [] and b.output_ids == [42], (
        f"a was preempted while its row was in flight, so 41 must be dropped, and b gets 42. Seen: a {a.output_ids}, "
        f"b {b.output_ids}. "
    ) + likely(
        (not a.output_ids, "b's row comes behind a's: `break` and `return` leave it out as well, `continue` does not"),
        otherwise=f"Compare row.epoch with request.epoch; a's status ({a.status.value}) cannot tell",
    )
    assert [o.request_id for o in outputs] == ["b"], f"a dropped row makes no output; seen: {outputs}"
    assert a.pending_samples == int(back_already), (
        f"a dropped row changes nothing: {int(back_already)} samples of a were pending, now {a.pending_samples} are"
    )


def test_the_length_limit_ends_a_request(model):
    """A request ends with its max_tokens-th token, for the reason LENGTH, and gives its blocks back."""
    engine = limited(model)
    request = engine.add_request("a", PROMPTS[0], SamplingParams(max_tokens=2))
    reasons = [output.finish_reason for _ in range(2) for output in engine.step()]
    assert reasons == [None, FinishReason.LENGTH], (
        f"with max_tokens=2 the second token is the last; reasons of the outputs of two steps: {reasons}. "
    ) + likely(
        (engine.book.finish_reason(request) is not FinishReason.LENGTH, "finish_reason() says otherwise of its tokens"),
        (len(reasons) < 2, "Each row that is not dropped makes an output, also while the request goes on"),
        otherwise="finish_reason() is right: store it in request.finish_reason before you call _output",
    )
    assert request.status is RequestStatus.FINISHED, f"the request is {request.status.value}; call scheduler.finish"
    assert_idle(engine)


@pytest.mark.parametrize("ignored", [False, True])
def test_the_end_of_sequence_token_ends_a_request(model, expected, ignored):
    """A request ends with an end-of-sequence token, which belongs to its output, unless it was told to ignore it."""
    engine = limited(model)
    eos = expected[0][7]
    engine.book.eos_ids = {eos}
    (result,) = engine.generate(PROMPTS[:1], SamplingParams(max_tokens=20, ignore_eos=ignored))
    end = 20 if ignored else expected[0].index(eos) + 1
    reason = FinishReason.LENGTH if ignored else FinishReason.EOS
    assert result.output_ids == tuple(expected[0][:end]), (
        f"eos is {eos}, ignore_eos={ignored}: {counted(end, 'token was', 'tokens were')} due, seen "
        f"{len(result.output_ids)}: {result.output_ids}"
    )
    assert result.finish_reason is reason, f"it should end for {reason}, and says {result.finish_reason}"


def test_end_of_sequence_counts_before_the_limit(model, expected):
    """If the last token allowed is the end-of-sequence token, the reason is EOS: the answer is complete."""
    engine = limited(model)
    end = next(i for i in range(4, 20) if expected[0][i] not in expected[0][:i])
    engine.book.eos_ids = {expected[0][end]}
    (result,) = engine.generate(PROMPTS[:1], SamplingParams(max_tokens=end + 1))
    assert result.finish_reason is FinishReason.EOS, f"the reason should be EOS; seen: {result.finish_reason}"


def test_a_stop_string_ends_a_request_and_is_cut_off(model, expected):
    """A request ends as soon as a stop string appears, even across two tokens; the text ends before it."""
    tokenizer = tiny_tokenizer()
    text = tokenizer.decode(expected[0])
    stop = text[5:8]  # three tokens
    engine = limited(model, tokenizer)
    (result,) = engine.generate(PROMPTS[:1], SamplingParams(max_tokens=8, stop=("never there", stop)))
    assert result.finish_reason is FinishReason.STOP, (
        f"{stop!r} is in the text {text!r}; reason: {result.finish_reason}"
    )
    assert result.text == text.split(stop)[0], f"the text should end before {stop!r}; seen {result.text!r}"
    assert_idle(engine)


def test_a_stop_string_may_end_inside_a_token(model, expected):
    """A stop string counts wherever it is in the text, also if its token brings more text behind it."""

    class LongTokens:
        """Writes token 26 as <26>."""

        def decode(self, ids, **_):
            return "".join(f"<{token}>" for token in ids)

    stop = f"<{expected[0][4]}"  # the ">" still follows
    (result,) = limited(model, LongTokens()).generate(PROMPTS[:1], SamplingParams(max_tokens=20, stop=(stop,)))
    text = LongTokens().decode(expected[0])
    assert result.finish_reason is FinishReason.STOP, (
        f"{stop!r} is in the text {text!r}; reason: {result.finish_reason}. Search the whole text, not only its end"
    )
    assert result.text == text.split(stop)[0], f"the text should end before {stop!r}; seen {result.text!r}"
