"""The official client of the API against this server: it parses what comes, and raises its own errors."""

import asyncio
from typing import Any

import pytest

from tests.ch10_serving.live import LONG, completion, until
from tests.simulated import needs_simulator

openai: Any = pytest.importorskip(
    "openai", reason="the openai client is not installed; pip install -r solutions/ch10_serving/requirements.txt"
)
pytestmark = needs_simulator
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def client(live):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{live.port}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_chat(client, live):
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=8, seed=1, n=2)
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 16


def test_a_chat_as_a_stream(client):
    values = {"model": "tiny", "messages": MESSAGES, "max_completion_tokens": 12, "seed": 3}
    whole = client.chat.completions.create(**values).choices[0].message.content
    with client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **values) as stream:
        chunks = list(stream)
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole and chunks[-1].usage.completion_tokens == 12 and chunks[-1].choices == []


def test_the_clients_own_helper_for_streams(client):
    """It puts the answer together itself, and is strict about what it gets."""
    values = {"model": "tiny", "messages": MESSAGES, "max_completion_tokens": 12, "seed": 3}
    with client.chat.completions.stream(**values) as stream:
        for _ in stream:
            pass
        final = stream.current_completion_snapshot
    assert final.choices[0].message.content == client.chat.completions.create(**values).choices[0].message.content


def test_a_completion(client):
    answer = client.completions.create(model="tiny", prompt=["Hello", "a"], max_tokens=5, temperature=0, stop=["\x00"])
    assert [choice.index for choice in answer.choices] == [0, 1] and answer.usage.completion_tokens == 10
    pieces = client.completions.create(model="tiny", prompt="Hello", max_tokens=5, temperature=0, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_models(client):
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").object == "model"


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"model": "other"}, "NotFoundError", "there is no such model here"),
        ({"temperature": 3}, "BadRequestError", "temperature: input should be less than or equal to 2"),
        ({"logprobs": True}, "BadRequestError", "logprobs: this server does not have it"),
        ({"messages": [{"role": "user", "content": "x" * 600}]}, "BadRequestError", "exceed the context of 512"),
    ],
)
def test_errors(client, values, error, words):
    with pytest.raises(getattr(openai, error)) as caught:
        client.chat.completions.create(**({"model": "tiny", "messages": MESSAGES} | values))
    assert words in caught.value.message and caught.value.param in values


def test_an_error_in_a_stream(client, live, monkeypatch):
    """An error event becomes the client's own exception, not a short answer."""
    from ch10_serving.chunk_text import ChunkText

    monkeypatch.setattr(ChunkText, "more", lambda *_: 1 / 0)
    with pytest.raises(openai.APIError, match="the server has made a mistake"):
        list(client.completions.create(model="tiny", prompt="Hello", stream=True))


def test_it_comes_back_when_it_was_told_to(live):
    """The client heeds 429 and Retry-After by itself: the second attempt finds a place."""
    places = live.service.admission.places
    with live.held() as let:
        inside = [live.open(completion(max_tokens=2)) for _ in range(places)]
        until(lambda: live.service.admission.inside == places, "it is full")
        refused = live.service.metrics.answers.labels("/v1/completions", 429)

        async def ask() -> str:
            async with openai.AsyncOpenAI(
                base_url=f"http://127.0.0.1:{live.port}/v1", api_key="none", max_retries=8
            ) as client:
                greedy = {"model": "tiny", "prompt": "Hello", "max_tokens": 2, "temperature": 0}
                asking = asyncio.ensure_future(client.completions.create(**greedy))
                while not refused._value.get():
                    await asyncio.sleep(0.01)
                let(100)
                return (await asyncio.wait_for(asking, LONG)).choices[0].finish_reason

        assert asyncio.run(ask()) == "length"
    for connection in inside:
        connection.close()
