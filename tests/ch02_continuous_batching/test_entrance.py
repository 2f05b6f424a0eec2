"""What a caller hands over is converted, checked and copied before the call returns (invariant 9)."""

import decimal
import itertools
import math

import numpy as np
import pytest
import torch

from ch02_continuous_batching import NO_TOKEN, Engine, EngineConfig, SamplingParams
from ch02_continuous_batching.build import build
from tests.helpers import reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from toolkit.errors import UserError

HUGE = 10**400
PROMPT = [5, 17, 42]


class Raises:
    """Something that raises whatever is asked of it."""

    def __index__(self):
        raise RuntimeError("no")

    __float__ = __iter__ = __repr__ = __index__


def params(**values) -> SamplingParams:
    return SamplingParams(**({"max_tokens": 4} | values))


def engine_of(tokenizer=None, **limits) -> Engine:
    return build(tiny_model(), tokenizer, **({"num_blocks": 20, "block_size": 4} | limits))


BAD_PARAMS = [
    *[("max_tokens", value) for value in (0, -1, 1.5, 2.0, math.nan, math.inf, "4", None, HUGE, [4], 2**63, Raises())],
    *[("temperature", value) for value in (-0.1, math.nan, math.inf, -math.inf, HUGE, 1e39, "1", None, 1j, Raises())],
    *[("top_k", value) for value in (-1, 0.5, 2**63, HUGE, math.nan, "1", None, Raises())],
    *[("top_p", value) for value in (0, -0.1, 1.01, math.nan, math.inf, HUGE, "1", None, np.zeros(2))],
    *[("seed", value) for value in (-1, 1.5, 2**64, HUGE, None, "0", math.nan, torch.tensor([1, 2]))],
    *[("stop", value) for value in ("", ["a", ""], [None], [b"a"], b"ab", 5, {"a": 1}, Raises())],
    *[("ignore_eos", value) for value in ("no", 1, None, [])],
]


@pytest.mark.parametrize(("name", "value"), BAD_PARAMS, ids=lambda value: type(value).__name__)
def test_bad_parameters_are_refused_in_one_line(name, value):
    """Wrong type, out of range, not finite: a UserError of one line that names the parameter."""
    with pytest.raises(UserError, match=name) as caught:
        params(**{name: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200, str(caught.value)


def test_numbers_of_other_kinds_are_converted():
    """numpy's and torch's numbers, fractions and decimals become Python's own; one stop string is one."""
    made = params(
        max_tokens=np.int32(3),
        temperature=decimal.Decimal("0.5"),
        top_k=torch.tensor(7),
        top_p=np.float32(0.5),
        seed=np.uint64(2**64 - 1),
        stop="END",
        ignore_eos=np.bool_(True),
    )
    assert made == params(
        max_tokens=3, temperature=0.5, top_k=7, top_p=0.5, seed=2**64 - 1, stop=("END",), ignore_eos=True
    )
    assert [type(value) for value in vars(made).values()] == [int, float, int, float, int, tuple, bool]
    assert params(stop=None).stop == ()


def test_a_stop_list_is_copied():
    stop = ["a"]
    made = params(stop=stop)
    stop.append("")
    assert made.stop == ("a",)


GOOD_PROMPTS = [
    tuple(PROMPT),
    np.array(PROMPT),
    np.array(PROMPT, np.uint8),
    torch.tensor(PROMPT),
    torch.tensor(PROMPT, dtype=torch.int32),
    [np.int64(5), torch.tensor(17), 42],
    (token for token in PROMPT),
]


@pytest.mark.parametrize("prompt", GOOD_PROMPTS, ids=lambda prompt: type(prompt).__name__)
def test_prompts_of_every_kind(prompt):
    """Lists, tuples, arrays, tensors and iterators of whole numbers give the same tokens."""
    request = engine_of().add_request("a", prompt, params())
    assert request.prompt_ids == PROMPT and all(type(token) is int for token in request.prompt_ids)


BAD_PROMPTS = [
    ([1.0, 2], "not a whole number"),
    (np.array([1.5]), "not a whole number"),
    (torch.tensor([1.0]), "not a whole number"),
    (["5"], "not a whole number"),
    ([None], "not a whole number"),
    ([[1, 2]], "not a whole number"),
    ([Raises()], "not a whole number"),
    (np.zeros((2, 2), int), "not a whole number"),
    ([96], "none of the model's 0 to 95"),
    ([-1], "none of the model's 0 to 95"),
    ([HUGE], "none of the model's 0 to 95"),
    ("text", "as a tokenizer makes it"),
    (b"text", "as a tokenizer makes it"),
    ({5: 1}, "as a tokenizer makes it"),
    ({5}, "as a tokenizer makes it"),
    (5, "yields no token ids"),
    (None, "yields no token ids"),
    (Raises(), "yields no token ids"),
    (torch.tensor(5), "yields no token ids"),
    ([], "no tokens"),
    (np.zeros(0, int), "no tokens"),
    (itertools.repeat(5), "exceed the context of 256"),
    (range(10**12), "exceed the context of 256|none of the model's"),
]


@pytest.mark.parametrize(("prompt", "words"), BAD_PROMPTS, ids=lambda value: type(value).__name__)
def test_bad_prompts_are_refused_in_one_line(prompt, words):
    """What is no list of the model's token ids is refused, and the engine serves the next request."""
    engine = engine_of()
    with pytest.raises(UserError, match=words) as caught:
        engine.add_request("bad", prompt, params())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250, str(caught.value)
    [output] = engine.generate([PROMPT], params())
    assert [list(output.output_ids)] == reference_outputs(shared_reference(), [PROMPT], 4)


def test_a_prompt_is_copied():
    """The caller's list is changed after the call: the request keeps what was checked."""
    engine, prompt = engine_of(), list(PROMPT)
    request = engine.add_request("a", prompt, params())
    prompt[0] = 5000
    assert request.prompt_ids == PROMPT


@pytest.mark.parametrize("name", [["a"], None, 5, b"a"])
def test_a_name_is_a_string(name):
    with pytest.raises(UserError, match="a request's name is a string"):
        engine_of().add_request(name, PROMPT, params())


def test_a_name_in_use_is_refused():
    engine = engine_of()
    engine.add_request("a", PROMPT, params())
    with pytest.raises(UserError, match="request a: this name is in use"):
        engine.add_request("a", PROMPT, params())


@pytest.mark.parametrize("wrong", [None, {"max_tokens": 4}, 4])
def test_parameters_are_sampling_params(wrong):
    with pytest.raises(UserError, match="make it with SamplingParams"):
        engine_of().add_request("a", PROMPT, wrong)


@pytest.mark.parametrize("name", ["num_blocks", "block_size", "max_rows", "token_budget", "max_length"])
@pytest.mark.parametrize(
    "value", [0, -1, 1.5, math.nan, "4", 2**31, 10**12, HUGE, Raises()], ids=lambda value: type(value).__name__
)
def test_bad_limits_are_refused(name, value):
    """Limits are whole numbers from 1 up; what would not fit the tensors is refused before anything is allocated."""
    with pytest.raises(UserError, match=name):
        engine_of(**{name: value})


@pytest.mark.parametrize(
    "limits", [{"num_blocks": 2**31 - 1}, {"block_size": 2**31 - 1}, {"max_rows": 2**31 - 1, "num_blocks": 10**6}]
)
def test_limits_beyond_all_memory_are_refused(limits):
    """They would fill the memory without a word."""
    with pytest.raises(UserError, match="GiB"):
        engine_of(**({"block_size": 4} | limits))


def test_numbers_of_numpy_as_limits():
    assert EngineConfig(num_blocks=np.int64(8)) == EngineConfig(num_blocks=8)
    assert type(EngineConfig(num_blocks=np.int64(8)).num_blocks) is int


def test_a_limit_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="max_row is no limit of an engine; there are num_blocks"):
        engine_of(max_row=4)


# --- generate, beside other requests ---


def test_generate_keeps_the_outputs_of_others():
    """Requests added before are served meanwhile, also under the names that generate would take; none is swallowed."""
    engine = engine_of(tiny_tokenizer())
    engine.add_request("1", PROMPT, params(max_tokens=6))
    engine.step()
    outputs = engine.generate([[9, 8], [7, 6, 5]], params())
    assert [list(output.output_ids) for output in outputs] == reference_outputs(
        shared_reference(), [[9, 8], [7, 6, 5]], 4
    )
    assert engine.has_work
    others = engine.step()
    [right] = reference_outputs(shared_reference(), [PROMPT], 6)
    assert {output.request_id for output in others} == {"1"}
    assert [token for output in others for token in output.new_token_ids] == right[1:]
    assert others[-1].finish_reason is not None and not engine.has_work


@pytest.mark.parametrize("prompts", [5, "ab", None, [5, 6], iter([[5]])], ids=lambda value: type(value).__name__)
def test_generate_refuses_what_is_no_list_of_prompts(prompts):
    with pytest.raises(UserError):
        engine_of().generate(prompts, params())


# --- rows without a token ---


def test_a_row_without_a_finite_logit_fails_alone(monkeypatch):
    """The model gives one request nothing but nan: it ends with ERROR, and the other gets its tokens."""
    engine = engine_of()
    for name, prompt in (("a", PROMPT), ("b", [9, 8])):
        engine.add_request(name, prompt, params())
    launch = engine.executor.launch

    def nan_for_the_first(batch):
        ids = launch(batch)
        ids[batch.inputs.input_ids[batch.inputs.logits_indices] == PROMPT[-1]] = NO_TOKEN
        return ids

    monkeypatch.setattr(engine.executor, "launch", nan_for_the_first)
    ends = {}
    while engine.has_work:
        ends |= {output.request_id: output for output in engine.step() if output.finish_reason is not None}
    assert ends["a"].finish_reason.value == "error" and "no finite logit" in ends["a"].error
    assert [list(ends["b"].output_ids)] == reference_outputs(shared_reference(), [[9, 8]], 4)
    assert engine.scheduler.blocks.num_free_blocks == 20
