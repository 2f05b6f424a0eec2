"""Exercise 2.5, and the engine as a whole against the library's own `generate`."""

import pytest

from ch02_continuous_batching import Engine, FinishReason, RequestStatus, SamplingParams
from tests.helpers import FAMILIES, random_prompts, reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from toolkit.errors import UserError

PROMPTS = random_prompts(10)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, 20)


def assert_idle(engine: Engine) -> None:
    """An engine without work holds no block and no request (DESIGN 4, invariant 6)."""
    assert not engine.has_work
    missing = engine.blocks.num_blocks - engine.blocks.num_free_blocks
    assert missing == 0, f"the engine is idle, but {missing} blocks were not given back"
    assert sorted(engine.blocks.free_blocks) == list(range(engine.blocks.num_blocks)), "a block is in the pool twice"


def outputs_of(engine: Engine, prompts: list[list[int]], params: SamplingParams) -> list[list[int]]:
    results = [list(out.output_ids) for out in engine.generate(prompts, params)]
    assert_idle(engine)
    return results


# --- 2.5: committing a step ---


@pytest.mark.exercise("2.5")
def test_tokens_reach_their_requests(model):
    """Each sampled token is appended to the request of its row, and the step's outputs say so."""
    engine = Engine(model)
    requests = [engine.add_request(name, PROMPTS[i], SamplingParams(max_tokens=9)) for i, name in enumerate("ab")]
    batch = engine.prepare()
    outputs = engine.commit_tokens(batch, [41, 42])
    seen = {request.request_id: request.output_ids for request in requests}
    assert seen == {"a": [41], "b": [42]}, f"a sampled 41 and b 42; seen: {seen}"
    assert [(o.request_id, o.new_token_ids) for o in outputs] == [("a", (41,)), ("b", (42,))], f"outputs: {outputs}"
    pending = [request.pending_samples for request in requests]
    assert pending == [0, 0], f"both samples have arrived, so none is pending; the requests say {pending}"


@pytest.mark.exercise("2.5")
@pytest.mark.parametrize("back_already", [False, True])
def test_a_row_of_an_old_epoch_is_dropped(model, back_already):
    """A token for a request that was preempted in flight is dropped, even if the request runs again by then."""
    engine = Engine(model)
    a, b = (engine.add_request(name, PROMPTS[i], SamplingParams(max_tokens=9)) for i, name in enumerate("ab"))
    batch = engine.prepare()
    engine.scheduler.preempt(a)
    if back_already:
        engine.prepare()  # a is admitted again, and its new row is in flight too
    outputs = engine.commit_tokens(batch, [41, 42])
    assert a.output_ids == [] and b.output_ids == [42], (
        f"a was preempted while its row was in flight, so 41 must be dropped, and b gets 42. Seen: a {a.output_ids}, "
        f"b {b.output_ids}. Compare row.epoch with request.epoch; a's status ({a.status.value}) cannot tell"
    )
    assert [o.request_id for o in outputs] == ["b"], f"a dropped row makes no output; seen: {outputs}"
    assert a.pending_samples == int(back_already), (
        f"a dropped row changes nothing: {int(back_already)} samples of a were pending, now {a.pending_samples} are"
    )


@pytest.mark.exercise("2.5")
def test_the_length_limit_ends_a_request(model):
    """A request ends with its max_tokens-th token, for the reason LENGTH, and gives its blocks back."""
    engine = Engine(model)
    request = engine.add_request("a", PROMPTS[0], SamplingParams(max_tokens=2))
    reasons = [output.finish_reason for _ in range(2) for output in engine.step()]
    assert reasons == [None, FinishReason.LENGTH], (
        f"with max_tokens=2 the second token is the last; reasons of the two outputs: {reasons}. "
        "Set request.finish_reason before you call _output"
    )
    assert request.status is RequestStatus.FINISHED, f"the request is {request.status.value}; call scheduler.finish"
    assert_idle(engine)


@pytest.mark.exercise("2.5")
@pytest.mark.parametrize("ignored", [False, True])
def test_the_end_of_sequence_token_ends_a_request(model, expected, ignored):
    """A request ends with an end-of-sequence token, which belongs to its output, unless it was told to ignore it."""
    engine = Engine(model)
    eos = expected[0][7]
    engine.eos_ids = {eos}
    (result,) = engine.generate(PROMPTS[:1], SamplingParams(max_tokens=20, ignore_eos=ignored))
    end = 20 if ignored else expected[0].index(eos) + 1
    reason = FinishReason.LENGTH if ignored else FinishReason.EOS
    assert result.output_ids == tuple(expected[0][:end]), (
        f"eos is {eos}, ignore_eos={ignored}: {end} tokens were due, seen {len(result.output_ids)}: {result.output_ids}"
    )
    assert result.finish_reason is reason, f"it should end for {reason}, and says {result.finish_reason}"


@pytest.mark.exercise("2.5")
def test_end_of_sequence_counts_before_the_limit(model, expected):
    """If the last token allowed is the end-of-sequence token, the reason is EOS: the answer is complete."""
    engine = Engine(model)
    end = next(i for i in range(4, 20) if expected[0][i] not in expected[0][:i])
    engine.eos_ids = {expected[0][end]}
    (result,) = engine.generate(PROMPTS[:1], SamplingParams(max_tokens=end + 1))
    assert result.finish_reason is FinishReason.EOS, f"the reason should be EOS; seen: {result.finish_reason}"


@pytest.mark.exercise("2.5")
def test_a_stop_string_ends_a_request_and_is_cut_off(model, expected):
    """A request ends as soon as a stop string appears, even across two tokens; the text ends before it."""
    tokenizer = tiny_tokenizer()
    text = tokenizer.decode(expected[0])
    stop = text[5:8]  # three tokens
    engine = Engine(model, tokenizer)
    (result,) = engine.generate(PROMPTS[:1], SamplingParams(max_tokens=8, stop=("never there", stop)))
    assert result.finish_reason is FinishReason.STOP, (
        f"{stop!r} is in the text {text!r}; reason: {result.finish_reason}"
    )
    assert result.text == text.split(stop)[0], f"the text should end before {stop!r}; seen {result.text!r}"
    assert_idle(engine)


@pytest.mark.exercise("2.5")
def test_a_stop_string_may_end_inside_a_token(model, expected):
    """A stop string counts wherever it stands in the text, also if its token brings more text behind it."""

    class LongTokens:
        """Writes token 26 as <26>."""

        def decode(self, ids, **_):
            return "".join(f"<{token}>" for token in ids)

    stop = f"<{expected[0][4]}"  # the ">" still follows
    (result,) = Engine(model, LongTokens()).generate(PROMPTS[:1], SamplingParams(max_tokens=20, stop=(stop,)))
    text = LongTokens().decode(expected[0])
    assert result.finish_reason is FinishReason.STOP, (
        f"{stop!r} is in the text {text!r}; reason: {result.finish_reason}. Search the whole text, not only its end"
    )
    assert result.text == text.split(stop)[0], f"the text should end before {stop!r}; seen {result.text!r}"


# --- the whole engine ---


@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize(("max_rows", "token_budget"), [(1, 64), (3, 5), (10, 64), (4, 400)])
def test_equals_generate(model, expected, policy, block_size, max_rows, token_budget):
    """Greedy outputs equal generate's, token for token, however the work is cut and ordered."""
    engine = Engine(
        model,
        policy=policy,
        block_size=block_size,
        num_blocks=1024 // block_size,
        max_rows=max_rows,
        token_budget=token_budget,
    )
    assert outputs_of(engine, PROMPTS, SamplingParams(max_tokens=20)) == expected


@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
@pytest.mark.parametrize("num_blocks", [15, 18, 25])
def test_equals_generate_under_preemption(model, expected, policy, num_blocks):
    """In a pool that is too small, requests are preempted and recomputed, and the tokens are the same."""
    engine = Engine(model, policy=policy, block_size=4, num_blocks=num_blocks, token_budget=24)
    preempted = []
    preempt = engine.scheduler.preempt
    engine.scheduler.preempt = lambda request: (preempted.append(request), preempt(request))
    outputs = outputs_of(engine, PROMPTS, SamplingParams(max_tokens=20))
    for i, (seen, right) in enumerate(zip(outputs, expected, strict=True)):
        assert seen == right, (
            f"request {i} should be {right}; seen {seen}. Right at first and wrong later: when a preempted request "
            "comes back, its output counts as known too, so a chunk that ends inside it must not sample (2.2); or its "
            "blocks were given away in a step in which it had a row (2.3)"
        )
    assert preempted, "the pool was meant to be too small, but nobody was preempted: this test tested nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_generate(family):
    """The paged cache serves every Llama-family model that it is said to serve."""
    prompts = PROMPTS[:5]
    expected = reference_outputs(shared_reference(family), prompts, 12)
    engine = Engine(tiny_model(family), block_size=4, token_budget=20)
    assert outputs_of(engine, prompts, SamplingParams(max_tokens=12)) == expected


def test_requests_that_join_later_get_the_same_tokens(model, expected):
    """Requests may arrive at any step; nobody's tokens depend on who else is in the batch."""
    engine = Engine(model, block_size=4, max_rows=3, token_budget=16)
    results: dict[str, list[int]] = {}
    for i in range(200):
        if i % 3 == 0 and i // 3 < len(PROMPTS):
            engine.add_request(str(i // 3), PROMPTS[i // 3], SamplingParams(max_tokens=20))
        results.update({o.request_id: list(o.output_ids) for o in engine.step() if o.finish_reason is not None})
    assert results == {str(i): tokens for i, tokens in enumerate(expected)}
    assert_idle(engine)


def test_sampled_tokens_depend_on_nothing_but_the_request(model):
    """With temperature, a request's tokens are the same alone, in any batch, in any order, and under preemption."""
    params = SamplingParams(max_tokens=15, temperature=1.2, top_k=40, top_p=0.95, seed=11)
    alone = [outputs_of(Engine(model), [prompt], params)[0] for prompt in PROMPTS]
    assert outputs_of(Engine(model), PROMPTS, params) == alone
    assert outputs_of(Engine(model, block_size=4, num_blocks=15, token_budget=7), PROMPTS, params) == alone
    other_seed = SamplingParams(max_tokens=15, temperature=1.2, top_k=40, top_p=0.95, seed=12)
    assert outputs_of(Engine(model), PROMPTS, other_seed) != alone, "another seed should give other tokens"


def test_each_request_has_one_last_output(model):
    """Every request gets exactly one output with a reason, and none after it."""
    engine = Engine(model, block_size=4, num_blocks=18, token_budget=9)
    for i, prompt in enumerate(PROMPTS):
        engine.add_request(str(i), prompt, SamplingParams(max_tokens=1 + i))
    seen: dict[str, list] = {str(i): [] for i in range(len(PROMPTS))}
    while engine.has_work:
        for output in engine.step():
            seen[output.request_id].append(output)
    for i, outputs in enumerate(seen.values()):
        assert [o.finish_reason is not None for o in outputs] == [False] * i + [True], f"request {i}: {outputs}"
        assert outputs[-1].output_ids == tuple(token for o in outputs for token in o.new_token_ids)


def test_a_step_without_work_does_nothing(model):
    """An engine with an empty queue says that it has no work, and a step brings nothing."""
    engine = Engine(model)
    assert not engine.has_work and engine.step() == [] and engine.generate([], SamplingParams()) == []


@pytest.mark.parametrize(
    ("prompt", "params", "words"),
    [
        ([], {}, "no tokens"),
        ([1] * 250, {"max_tokens": 7}, "exceed the context of 256"),
        ([1] * 70, {"max_tokens": 11}, "can never fit the KV cache of 80 tokens"),
        ([1], {"stop": ("x",)}, "need a tokenizer"),
    ],
)
def test_what_can_never_be_served_is_refused(model, prompt, params, words):
    """An impossible request is refused with one line that says why, and the others of its list are not queued."""
    engine = Engine(model, block_size=4, num_blocks=20)
    with pytest.raises(UserError, match=words):
        engine.add_request("a", prompt, SamplingParams(**params))
    with pytest.raises(UserError, match=words):
        engine.generate([[1, 2], prompt], SamplingParams(**params))
    assert_idle(engine)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
        {"stop": ("",)},
    ],
)
def test_sampling_params_out_of_range_are_refused(wrong):
    """A value out of range is refused at once, with its name in the message."""
    with pytest.raises(UserError, match=next(iter(wrong)).split("_")[0]):
        SamplingParams(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"num_blocks": 0}, {"block_size": 0}, {"max_rows": 0}, {"token_budget": -1}, {"policy": "lifo"}]
)
def test_limits_out_of_range_are_refused(model, wrong):
    """An engine that could never run anything is refused when it is made, with the limit's name."""
    with pytest.raises(UserError, match=next(iter(wrong))):
        Engine(model, **wrong)
