"""Answers as a whole: the right tokens, the API's shape, prompts of all kinds, several choices, stop strings."""

import re
from functools import cache

import pytest

from tests.ch10_serving.live import CHAT, MAX_LENGTH, Live, chat, completion
from tests.helpers import reference_outputs
from tests.simulated import needs_simulator
from toolkit.models import load_model

pytestmark = needs_simulator
EOS = 2
PROMPTS = ["Hello", "a", "The quick brown fox", "äöü"]


@cache
def right(prompt: tuple[int, ...], tokens: int = 8) -> list[int]:
    """What the library's own `generate` gives, greedy, without the end-of-sequence token."""
    [output] = reference_outputs(load_model("tiny").model, [list(prompt)], tokens, [EOS])
    return [token for token in output if token != EOS]


def ids_of(live: Live, text: str) -> tuple[int, ...]:
    return tuple(live.tokenizer.encode(text))


def right_text(live: Live, prompt: str | tuple[int, ...], tokens: int = 8) -> str:
    ids = ids_of(live, prompt) if isinstance(prompt, str) else prompt
    return live.tokenizer.decode(right(ids, tokens), skip_special_tokens=True)


def test_the_shape_of_a_completion(live):
    answer = live.completion("Hello")
    body = answer.json
    assert answer.headers["content-type"] == "application/json"
    assert re.fullmatch("cmpl-[0-9a-f]{32}", body.pop("id")) and type(body.pop("created")) is int
    assert body == {
        "object": "text_completion",
        "model": "tiny",
        "choices": [
            {"index": 0, "text": right_text(live, "Hello"), "finish_reason": "length", "logprobs": None},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13},
    }


def test_the_shape_of_a_chat(live):
    """The prompt is the model's chat template."""
    answer = live.post(CHAT, chat("Hello"))
    body = answer.json
    template = "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    ids = ids_of(live, template)
    assert re.fullmatch("chatcmpl-[0-9a-f]{32}", body.pop("id")) and type(body.pop("created")) is int
    message = {"role": "assistant", "content": right_text(live, ids), "refusal": None}
    assert body == {
        "object": "chat.completion",
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "length", "logprobs": None}],
        "usage": {"prompt_tokens": len(ids), "completion_tokens": 8, "total_tokens": len(ids) + 8},
    }


def test_a_conversation(live):
    """Roles in turn, contents in parts, and nulls that clients send along."""
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
        {"role": "assistant", "content": "Yes?", "refusal": None, "tool_calls": None, "function_call": None},
        {"role": "user", "content": "Go on", "name": None},
    ]
    template = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nGo on<|im_end|>\n<|im_start|>assistant\n"
    )
    answer = live.post(CHAT, chat(messages=messages))
    assert answer.texts == [right_text(live, ids_of(live, template))]


@pytest.mark.parametrize("as_ids", [False, True], ids=["texts", "ids"])
def test_several_prompts(live, as_ids):
    """Each gets its answer, in order; the usage is of all."""
    ids = [ids_of(live, prompt) for prompt in PROMPTS]
    answer = live.completion([list(each) for each in ids] if as_ids else PROMPTS)
    assert answer.texts == [right_text(live, prompt) for prompt in PROMPTS]
    assert [choice["index"] for choice in answer.json["choices"]] == [0, 1, 2, 3]
    counted = answer.json["usage"]
    assert counted["prompt_tokens"] == sum(map(len, ids))
    assert counted["completion_tokens"] == sum(len(right(each)) for each in ids)


def test_one_prompt_of_ids(live):
    ids = ids_of(live, "Hello")
    assert live.completion(list(ids)).texts == [right_text(live, ids)]


def test_a_seed_repeats_and_its_choices_differ(live):
    """Choice i is what seed + i gives alone; without a seed two calls differ."""
    sampled = {"temperature": 1.0, "max_tokens": 12}
    three = live.completion(n=3, seed=7, **sampled).texts
    assert three == live.completion(n=3, seed=7, **sampled).texts, "the same seed, and other texts"
    assert len(set(three)) == 3, "choices of one call are the same"
    assert three == [live.completion(seed=7 + i, **sampled).texts[0] for i in range(3)]
    assert live.completion(**sampled).texts != live.completion(**sampled).texts, "no seed, and twice the same text"


def test_seeds_at_the_end_of_their_range(live):
    """Negative ones, as OpenAI takes them, and the largest, with choices beyond it."""
    for seed in (-1, -(2**63), 2**63 - 1):
        texts = live.completion(seed=seed, n=2, temperature=1.0).texts
        assert texts == live.completion(seed=seed, n=2, temperature=1.0).texts and texts[0] != texts[1]


def test_choices_of_several_prompts(live):
    """All choices of the first prompt, then those of the second; prompt tokens are counted once each."""
    answer = live.completion(["Hello", "a"], n=2, seed=1, temperature=0.7)
    alone = [live.completion(prompt, n=2, seed=1, temperature=0.7).texts for prompt in ("Hello", "a")]
    assert answer.texts == alone[0] + alone[1]
    assert [choice["index"] for choice in answer.json["choices"]] == [0, 1, 2, 3]
    assert answer.json["usage"]["prompt_tokens"] == 6


def test_a_tiny_temperature_is_greedy(live):
    for temperature in (0, 1e-30):
        assert live.completion(temperature=temperature, top_p=1).texts == [right_text(live, "Hello")]
    assert live.completion(temperature=2.0, top_p=1e-9).texts == [right_text(live, "Hello")]


@pytest.mark.parametrize("several", [False, True])
def test_a_stop_string_ends_the_text_before_it(live, several):
    whole = right_text(live, "Hello", 40)
    stop = whole[5:7]
    answer = live.completion(max_tokens=40, stop=["\x00\x01\x02", stop] if several else stop)
    assert answer.texts == [whole[: whole.index(stop)]]
    assert answer.json["choices"][0]["finish_reason"] == "stop"


def test_the_end_of_the_sequence(live):
    """Some seed's answer ends by itself: the reason is stop, and the end's own token is counted, not shown."""
    for seed in range(40):
        answer = live.completion(seed=seed, temperature=1.5, max_tokens=60)
        if answer.json["choices"][0]["finish_reason"] == "stop":
            break
    assert answer.json["choices"][0]["finish_reason"] == "stop", "no answer of 40 has ended by itself"
    assert answer.json["usage"]["completion_tokens"] < 60 and "<|im_end|>" not in answer.texts[0]


def test_a_chat_may_fill_the_context(live):
    """No max_tokens: as many as there is room for. max_completion_tokens counts before max_tokens."""
    body = chat("x" * (MAX_LENGTH - 60))
    del body["max_tokens"]
    counted = live.post(CHAT, body).json["usage"]
    ended = live.post(CHAT, body).json["choices"][0]["finish_reason"] == "stop"
    assert counted["total_tokens"] == MAX_LENGTH or ended
    short = live.post(CHAT, body | {"max_completion_tokens": 3, "max_tokens": 7})
    assert short.json["usage"]["completion_tokens"] == 3


def test_a_completion_has_16_tokens_by_default(live):
    body = completion("Hello", seed=3)
    del body["max_tokens"]
    assert live.post("/v1/completions", body).json["usage"]["completion_tokens"] == 16


def test_models(live):
    card = live.get("/v1/models/tiny").json
    assert card.pop("created") > 0 and card == {"id": "tiny", "object": "model", "owned_by": "local"}
    listed = live.get("/v1/models").json
    assert listed["object"] == "list" and [each["id"] for each in listed["data"]] == ["tiny"]
    assert live.get("/v1/models/other").status == 404


def test_health(live):
    assert (live.get("/health").status, live.get("/health").json) == (200, {"status": "ok"})
