"""The ingress: what it repeats, what it cannot, and that no client ever waits for a replica that has died."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from ch10_serving.api_errors import ApiError
from ch10_serving.asgi_call import HttpRequest, call_asgi
from ch10_serving.ingress import Ingress, prepared

JSON = ((b"content-type", b"application/json"),)
STREAM = ((b"content-type", b"text/event-stream; charset=utf-8"),)


class Died(Exception):
    pass


class Busy(Exception):
    pass


def start(headers: Any = JSON, status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(text: str, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


class Replicas:
    """Replicas that answer, one call after the other, as they are told: with messages, or by raising."""

    def __init__(self, *answers: list[Any]) -> None:
        self.answers, self.requests = list(answers), []
        self.open = 0

    async def call(self, request: HttpRequest) -> AsyncIterator[Any]:
        self.requests.append(request)
        self.open += 1
        try:
            for message in self.answers.pop(0):
                if isinstance(message, Exception):
                    raise message
                await asyncio.sleep(0)
                yield message
        finally:
            self.open -= 1


def ask(replicas: Replicas, body: bytes = b'{"prompt": "Hello"}', gone: bool = False) -> tuple[Any, str]:
    """Status and body of the answer to a request, whose client may be gone once its request is read."""
    request = HttpRequest("POST", "/v1/completions", JSON, body)
    parts = [{"type": "http.request", "body": body[:5], "more_body": True}, {"type": "http.request", "body": body[5:]}]
    sent: list[Any] = []

    async def receive() -> Any:
        if parts:
            return parts.pop(0)
        await asyncio.sleep(0 if gone else 60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    ingress = Ingress(replicas.call, (Died,), (Busy,), largest_body=100)
    asyncio.run(ingress(request.scope(), receive, send))
    assert replicas.open == 0, "a call to a replica is still open"
    if gone:
        return None, ""
    assert [message["type"] for message in sent].count("http.response.start") == 1
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:]).decode()


def test_an_answer_goes_through():
    replicas = Replicas([start(), part("{}", more=False)])
    assert ask(replicas) == (200, "{}")
    assert replicas.requests[0].path == "/v1/completions" and replicas.requests[0].headers[0] == JSON[0]


@pytest.mark.parametrize("before", [[], [start()], [start(), part("{")]], ids=["nothing", "the start", "half of it"])
def test_it_is_repeated_once(before: list[Any]):
    """However much of an answer that is not streamed has come: the client has seen none of it."""
    replicas = Replicas([*before, Died()], [start(), part('{"a"'), part(": 1}", more=False)])
    assert ask(replicas) == (200, '{"a": 1}')
    first, second = replicas.requests
    assert first == second and json.loads(first.body)["seed"] is not None, "the second replica must draw the same"


def test_it_is_not_repeated_twice():
    replicas = Replicas([Died()], [start(), Died()])
    status, body = ask(replicas)
    assert (status, len(replicas.requests)) == (503, 2)
    assert json.loads(body)["error"]["code"] == "service_unavailable"


def test_a_stream_that_has_not_been_seen_is_repeated():
    replicas = Replicas([Died()], [start(STREAM), part("data: 1\n\n"), part("data: [DONE]\n\n", more=False)])
    assert ask(replicas) == (200, "data: 1\n\ndata: [DONE]\n\n")


def test_a_cut_stream_ends_with_an_error():
    """It is the last event, and there is no [DONE] behind it."""
    replicas = Replicas([start(STREAM), part("data: 1\n\n"), Died()])
    status, body = ask(replicas)
    first, last = body.split("\n\n")[:2]
    assert (status, first, len(replicas.requests)) == (200, "data: 1", 1)
    assert "died in the middle" in json.loads(last.removeprefix("data: "))["error"]["message"]


def test_streams_are_passed_on_as_they_come():
    """Not when they have ended."""
    seen: list[Any] = []

    async def call(request: HttpRequest) -> AsyncIterator[Any]:
        for message in (start(STREAM), part("data: 1\n\n"), part("data: 2\n\n", more=False)):
            yield message
            seen.append(("sent", len(sent)))

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    ingress = Ingress(call, (Died,), (Busy,), 100)
    asyncio.run(ingress.answer(HttpRequest("POST", "/", JSON), send))
    assert seen == [("sent", 1), ("sent", 2), ("sent", 3)]


def test_full_replicas():
    status, body = ask(Replicas([Busy()]))
    assert status == 429 and json.loads(body)["error"]["type"] == "rate_limit_error"


def test_a_body_that_is_too_large():
    replicas = Replicas()
    status, body = ask(replicas, b'"' + b"x" * 100 + b'"')
    assert (status, replicas.requests) == (413, []) and "100 bytes" in body


def test_a_client_that_goes_takes_its_call_along():
    async def endless(request: HttpRequest) -> AsyncIterator[Any]:
        replicas.open += 1
        try:
            await asyncio.sleep(60)
            yield start()
        finally:
            replicas.open -= 1

    replicas = Replicas()
    replicas.call = endless  # type: ignore[method-assign]
    ask(replicas, gone=True)


def test_a_mistake_of_ours_is_not_taken_for_a_death():
    with pytest.raises(ZeroDivisionError):
        ask(Replicas([ZeroDivisionError()]))


def prepare(body: Any, draw: Callable[[], int] = lambda: 77) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return prepared(HttpRequest("POST", "/", (*JSON, (b"content-length", b"1"), (b"x", b"y")), raw), draw)


def test_the_seed_is_drawn_here():
    """If none is given, or null; any other is left, right or wrong, and so is what is no JSON object."""
    for body in ({"n": 2}, {"n": 2, "seed": None}):
        request = prepare(body)
        assert json.loads(request.body) == {"n": 2, "seed": 77}
        assert dict(request.headers)[b"content-length"] == str(len(request.body)).encode()
        assert dict(request.headers)[b"x"] == b"y"
    for body in ({"seed": 0}, {"seed": "x"}, [1], 5, b"{", b"", b"[" * 100_000):
        request = prepare(body)
        assert request.body == (body if isinstance(body, bytes) else json.dumps(body).encode())
    assert prepare({"prompt": "Hello"}).beginning == b'"Hello"' and prepare(b"{").beginning == b""


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send(start())
    await send(part(f"{scope['method']} {scope['path']} {body!r}"))
    assert (await receive())["type"] == "http.disconnect"
    raise ApiError(499, "gone")


def test_an_application_is_called_with_data():
    """It gets the body, then nothing until the one who listens goes; what it raises then concerns no client."""

    async def run() -> list[Any]:
        messages = call_asgi(echo, HttpRequest("PUT", "/x", (), b"abc"))
        seen = [await anext(messages), await anext(messages)]
        await asyncio.wait_for(messages.aclose(), 10)
        return seen

    assert asyncio.run(run()) == [start(), part("PUT /x b'abc'")]


def test_what_an_application_raises_comes_out():
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        raise KeyError("x")

    async def run() -> None:
        async for message in call_asgi(broken, HttpRequest("GET", "/", ())):
            assert message == start()

    with pytest.raises(KeyError):
        asyncio.run(run())
