"""Requests that cannot be served: the API's error object and a status that fits, and nothing else happens."""

import json

import pytest

from tests.ch10_serving.live import CHAT, MAX_LENGTH, chat, completion, parsed, read_all, until
from tests.simulated import needs_simulator

pytestmark = needs_simulator

# What is sent instead of, or besides, a right completion -> parameter at fault, words of the message.
BAD_COMPLETIONS = {
    "prompt missing": ({"prompt": None}, "prompt", "prompt is missing"),
    "prompt a number": ({"prompt": 5}, "prompt", "a string, a list of token ids"),
    "prompt empty": ({"prompt": ""}, "prompt", "it is empty"),
    "prompt an empty list": ({"prompt": []}, "prompt", "a string, a list of token ids"),
    "prompt with an empty list": ({"prompt": [[1], []]}, "prompt", "a string, a list of token ids"),
    "prompt of floats": ({"prompt": [1.0]}, "prompt", "a string, a list of token ids"),
    "prompt of truths": ({"prompt": [True]}, "prompt", "a string, a list of token ids"),
    "a token too high": ({"prompt": [1, 259]}, "prompt", "token 259 is none of the model's, 0 to 258"),
    "a token below 0": ({"prompt": [-1]}, "prompt", "token -1 is none"),
    "a token of many digits": ({"prompt": [10**300]}, "prompt", "is none of the model's"),
    "half a surrogate pair": ({"prompt": "\ud800"}, "prompt", "valid Unicode"),
    "too long": ({"prompt": "x" * 600}, "prompt", "600 tokens and 8 for the answer exceed the context of 512"),
    "no room for the answer": ({"max_tokens": MAX_LENGTH}, "prompt", "exceed the context of 512"),
    "max_tokens 0": ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
    "max_tokens a string": ({"max_tokens": "8"}, "max_tokens", "valid integer"),
    "max_tokens a truth": ({"max_tokens": True}, "max_tokens", "valid integer"),
    "max_tokens half": ({"max_tokens": 1.5}, "max_tokens", "integer"),
    "temperature below 0": ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
    "temperature above 2": ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
    "temperature a string": ({"temperature": "hot"}, "temperature", "valid number"),
    "top_p 0": ({"top_p": 0}, "top_p", "greater than 0"),
    "n 0": ({"n": 0}, "n", "greater than or equal to 1"),
    "n 17": ({"n": 17}, "n", "less than or equal to 16"),
    "seed a float": ({"seed": 0.5}, "seed", "integer"),
    "seed too large": ({"seed": 2**63}, "seed", "less than"),
    "stop empty": ({"stop": ""}, "stop", "1 to 256 characters"),
    "five stops": ({"stop": ["a", "b", "c", "d", "e"]}, "stop", "at most 4"),
    "stop too long": ({"stop": "x" * 257}, "stop", "1 to 256 characters"),
    "stream a string": ({"stream": "yes"}, "stream", "valid boolean"),
    "options without a stream": ({"stream_options": {"include_usage": True}}, "stream_options", "only with stream"),
    "options unknown": ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "no such parameter"),
    "model missing": ({"model": None}, "model", "model is missing"),
    "model a number": ({"model": 1}, "model", "valid string"),
    "logprobs": ({"logprobs": 0}, "logprobs", "does not have it"),
    "best_of": ({"best_of": 3}, "best_of", "does not have it"),
    "echo": ({"echo": True}, "echo", "does not have it"),
    "suffix": ({"suffix": "end"}, "suffix", "does not have it"),
    "logit_bias": ({"logit_bias": {"50": 1}}, "logit_bias", "does not have it"),
    "presence_penalty": ({"presence_penalty": 0.5}, "presence_penalty", "does not have it"),
    "unknown": ({"temprature": 1}, "temprature", "no such parameter"),
    "braces in a name": ({"{x}": 1}, "{x}", "no such parameter"),
    "a name without end": ({"x" * 5000: 1}, "x" * 99, "no such parameter"),
}
BAD_CHATS = {
    "no messages": ({"messages": []}, "messages", "at least 1 item"),
    "messages a string": ({"messages": "Hello"}, "messages", "valid list"),
    "a message without a role": ({"messages": [{"content": "x"}]}, "messages[0].role", "is missing"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "'user'"),
    "content a number": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "string or a list"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[0].content",
        "images, audio and files are not served here",
    ),
    "tools": ({"tools": [{"type": "function"}]}, "tools", "does not have it"),
    "response_format": ({"response_format": {"type": "json_object"}}, "response_format", "does not have it"),
    "logprobs": ({"logprobs": True}, "logprobs", "does not have it"),
    "prompt": ({"prompt": "x"}, "prompt", "no such parameter"),
    "too long": ({"messages": [{"role": "user", "content": "x" * 600}]}, "messages", "exceed the context"),
}


@pytest.mark.parametrize(("changed", "param", "words"), BAD_COMPLETIONS.values(), ids=BAD_COMPLETIONS)
def test_a_bad_completion(live, changed, param, words):
    answer = live.completion(**changed)
    assert (answer.status, answer.error["type"], answer.error["param"]) == (400, "invalid_request_error", param)
    assert words in answer.error["message"] and "\n" not in answer.error["message"]
    assert param.split(".")[0].split("[")[0] in answer.error["message"], "the message names the parameter"


@pytest.mark.parametrize(("changed", "param", "words"), BAD_CHATS.values(), ids=BAD_CHATS)
def test_a_bad_chat(live, changed, param, words):
    answer = live.post(CHAT, chat() | changed)
    assert (answer.status, answer.error["type"], answer.error["param"]) == (400, "invalid_request_error", param)
    assert words in answer.error["message"]


BAD_BODIES = {
    "nothing": (b"", "the request has no body"),
    "no JSON": (b"{", "the body is not JSON"),
    "half a body": (b'{"model": "tiny"', "the body is not JSON"),
    "a list": (b"[]", "not an object"),
    "a string": (b'"tiny"', "not an object"),
    "null": (b"null", "not an object"),
    "not a number": (b'{"model": "tiny", "prompt": "a", "temperature": NaN}', "temperature"),
    "infinity": (b'{"model": "tiny", "prompt": "a", "temperature": 1e999}', "temperature"),
    "no UTF-8": (b'{"model": "\xff"}', "UTF-8"),
    "nested": (b"[" * 100_000, "nested"),
    "a name that UTF-8 has not": (
        b'{"model": "tiny", "prompt": "a", "\\ud800": 1}',
        "the body: input should be a valid",
    ),
    "a number of many digits": (b'{"model": "tiny", "prompt": "a", "max_tokens": ' + b"9" * 5000 + b"}", ""),
    "a form": (b"model=tiny&prompt=a", "the body is not JSON"),
}


@pytest.mark.parametrize(("body", "words"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body(live, body, words):
    answer = live.post("/v1/completions", body)
    assert answer.status == 400 and answer.error["type"] == "invalid_request_error"
    assert words in answer.error["message"]


@pytest.mark.parametrize("name", ["tiny2", "", "tiny/../x", "x" * 1000])
def test_an_unknown_model(live, name):
    answer = live.completion(model=name)
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert "the server has tiny" in answer.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
        ("POST", "/v1/embeddings", 404),
        ("POST", "/v1/completions/", 404),
        ("GET", "/v1/completions", 405),
        ("DELETE", "/v1/models/tiny", 405),
        ("OPTIONS", "/v1/completions", 405),
        ("POST", "/health", 405),
    ],
)
def test_what_is_not_there(live, method, path, status):
    """Also pages of documentation, and what a browser would ask before a call from another page (CORS)."""
    answer = live.request(method, path, None, {"Content-Type": "application/json", "Origin": "http://example.org"})
    assert answer.status == status and answer.error["message"]
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_neutral_values_are_let_through(live):
    """Clients send defaults along; they ask for nothing."""
    neutral = {
        "best_of": 1,
        "echo": False,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "logprobs": None,
        "suffix": None,
        "user": "me",
        "seed": None,
        "stop": None,
        "top_p": None,
    }
    assert live.completion(**neutral).texts == live.completion().texts
    chats = {"tools": None, "tool_choice": "auto", "response_format": {"type": "text"}, "logprobs": False}
    assert live.post(CHAT, chat(**chats)).texts == live.post(CHAT, chat()).texts


def test_a_full_server(live):
    """Status 429 with Retry-After for a request that finds no place; those inside are served; then there is room."""
    places = live.service.admission.places
    with live.held() as let:
        inside = [live.open(completion(max_tokens=2)) for _ in range(places - 1)]
        until(lambda: live.service.admission.inside == places - 1, "one place is left")
        two = live.completion(n=2)
        last = live.open(completion(max_tokens=2, stream=True))
        until(lambda: live.service.admission.inside == places, "it is full")
        for answer in (two, live.completion(), live.post(CHAT, chat(stream=True))):
            assert answer.status == 429 and answer.error["code"] == "rate_limit_exceeded"
            assert answer.error["type"] == "rate_limit_error" and 1 <= int(answer.headers["retry-after"]) <= 60
        let(60)
        assert [parsed(read_all(each)).status for each in [*inside, last]] == [200] * places
    assert live.completion().status == 200


def test_more_than_the_server_ever_has_room_for(live):
    """No matter of time: 400, not 429."""
    answer = live.completion(["a", "b"], n=16)
    assert answer.status == 400 and "32 answers at once" in answer.error["message"]


def test_a_failed_call_keeps_no_place(live):
    """Refused after its places were taken: for its length, its tokens, its template."""
    for _ in range(2 * live.service.admission.places):
        assert live.completion("x" * 600).status == 400
        assert live.completion([[5], [999]], n=4).status == 400
    assert live.service.admission.inside == 0


def test_a_chat_template_that_refuses(live, monkeypatch):
    """What a template raises goes to the caller, in one line."""

    def render(*_, **__):
        raise ValueError("roles must alternate\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(type(live.tokenizer), "apply_chat_template", render)
        answer = live.post(CHAT, chat())
    assert answer.status == 400 and answer.error["message"].endswith("refuses them: roles must alternate")


def test_a_model_without_a_template_or_tokenizer(live, monkeypatch):
    monkeypatch.setattr(live.tokenizer, "chat_template", None)
    assert "no chat template" in live.post(CHAT, chat()).error["message"]
    monkeypatch.setattr(live.service.reader, "tokenizer", None)
    assert "no tokenizer" in live.completion("text").error["message"]
    assert live.completion([5, 6]).status == 200


def test_a_mistake_of_the_servers_own(live, monkeypatch, caplog):
    """Status 500, no traceback on the wire, and the place is free."""

    def broken(*_):
        raise ZeroDivisionError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(live.service.reader, "read", broken)
        answer = live.completion()
    assert answer.status == 500 and answer.error["type"] == "server_error"
    assert "ZeroDivision" not in json.dumps(answer.json)


def test_prompts_are_not_logged(live, caplog, capfd):
    """Neither of requests that are served, nor of those that are refused or fail."""
    caplog.set_level("DEBUG")
    secret = "correct-horse-battery"
    live.completion(secret)
    live.completion(secret, stream=True)
    live.post(CHAT, chat(secret))
    live.completion(secret * 40)
    live.completion(secret, temperature="hot")
    live.post("/v1/completions", f'{{"prompt": "{secret}", '.encode())
    live.post(CHAT, chat() | {"messages": [{"role": "user", "content": secret, "extra": 1}]})
    printed = "".join(capfd.readouterr())
    assert secret not in caplog.text and secret not in printed
