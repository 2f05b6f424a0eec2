"""The engine as a whole against the library's own `generate`."""

import pytest

from ch02_continuous_batching import Engine, Request, SamplingParams
from ch02_continuous_batching.build import build
from tests.ch02_continuous_batching.idle import assert_idle
from tests.helpers import FAMILIES, random_prompts, reference_outputs, shared_reference, tiny_model
from toolkit.errors import UserError

PROMPTS = random_prompts(10)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, 20)


def outputs_of(engine: Engine, prompts: list[list[int]], params: SamplingParams) -> list[list[int]]:
    results = [list(out.output_ids) for out in engine.generate(prompts, params)]
    assert_idle(engine)
    return results


@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
@pytest.mark.parametrize("block_size", [1, 4, 16])
@pytest.mark.parametrize(("max_rows", "token_budget"), [(1, 64), (3, 5), (10, 64), (4, 400)])
def test_equals_generate(model, expected, policy, block_size, max_rows, token_budget):
    """Greedy outputs equal generate's, token for token, however the work is cut and ordered."""
    engine = build(
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
    engine = build(model, policy=policy, block_size=4, num_blocks=num_blocks, token_budget=24)
    preempted = []
    preempt = engine.scheduler.preempt

    def noted(request: Request) -> None:
        preempted.append(request)
        preempt(request)

    engine.scheduler.preempt = noted
    outputs = outputs_of(engine, PROMPTS, SamplingParams(max_tokens=20))
    for i, (seen, right) in enumerate(zip(outputs, expected, strict=True)):
        assert seen == right, (
            f"request {i} should be {right}; seen {seen}. Right at first and wrong later: when a preempted request "
            "comes back, its output counts as known too, so a chunk that ends inside it must not sample (2.2); or its "
            "blocks were given away in a step in which it had a row (2.3)"
        )
    assert preempted, "the pool was meant to be too small, but no request was preempted: this test tested nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_equals_generate(family):
    """The paged cache serves every Llama-family model that it is said to serve."""
    prompts = PROMPTS[:5]
    expected = reference_outputs(shared_reference(family), prompts, 12)
    engine = build(tiny_model(family), block_size=4, token_budget=20)
    assert outputs_of(engine, prompts, SamplingParams(max_tokens=12)) == expected


def test_requests_that_join_later_get_the_same_tokens(model, expected):
    """Requests may arrive at any step; no request's tokens depend on what else is in the batch."""
    engine = build(model, block_size=4, max_rows=3, token_budget=16)
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
    alone = [outputs_of(build(model), [prompt], params)[0] for prompt in PROMPTS]
    assert outputs_of(build(model), PROMPTS, params) == alone
    assert outputs_of(build(model, block_size=4, num_blocks=15, token_budget=7), PROMPTS, params) == alone
    other_seed = SamplingParams(max_tokens=15, temperature=1.2, top_k=40, top_p=0.95, seed=12)
    assert outputs_of(build(model), PROMPTS, other_seed) != alone, "another seed should give other tokens"


def test_each_request_has_one_last_output(model):
    """Every request gets exactly one output with a reason, and none after it."""
    engine = build(model, block_size=4, num_blocks=18, token_budget=9)
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
    engine = build(model)
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
    engine = build(model, block_size=4, num_blocks=20)
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
        build(model, **wrong)
