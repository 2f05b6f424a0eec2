"""The API on two replicas of Ray Serve: what a client sees when one of them dies, hangs, or is full."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from ch10_serving.local_ray import started
from tests.on_ray.processes import LONG, foreign_listeners, kill, title, until, workers
from tests.on_ray.services import ROWS, tiny_service
from toolkit.errors import UserError

REPLICA = "ServeReplica:serving:Replica"
WORKING = REPLICA + ".handle_request"
WAITING = 10
HELLO = {"model": "tiny", "prompt": "Hello there", "max_tokens": 300, "temperature": 1.0}
# Without a seed an answer may end after a few tokens, before a test sees which replica has it; this one has 742.
LASTS = HELLO | {"seed": 5}
HANGS = {"model": "tiny", "prompt": "7 bytes", "max_tokens": 1}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started(2) as resources:
        from ch10_serving.replicas import deploy

        deploy(tiny_service, 2, resources, ROWS, port, affine=True, waiting=WAITING, patience=6.0)
        yield port


@contextmanager
def asked(port: int, body: dict[str, Any]) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        yield connection.getresponse()
    finally:
        connection.close()


def answer(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    with asked(port, body) as response:
        return response.status, json.loads(response.read())


def texts(body: Any) -> list[str]:
    assert "choices" in body, body
    return [choice["text"] for choice in body["choices"]]


def the_one_that_works() -> Any:
    """The replica that has a request."""
    return until(lambda: workers(os.getpid(), WORKING), "a replica works")[0]


@contextmanager
def asked_of_one(port: int, body: dict[str, Any]) -> Iterator[tuple[http.client.HTTPResponse, Any]]:
    """A request, and the replica that has it.

    That one is looked for from before the request comes: the title of its process says that it works only until its
    next health check has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(the_one_that_works)
        with asked(port, body) as response:
            yield response, looking.result(LONG)


@pytest.fixture
def two(port: int) -> int:
    """Both replicas are there, and have nothing to do."""
    until(lambda: len(workers(os.getpid(), REPLICA)) == 2, "there are two replicas")
    until(lambda: not workers(os.getpid(), WORKING), "no replica works")
    return port


def test_a_seed_gives_the_same_answer_on_each_replica(two: int):
    """Many beginnings, so both have some; with and without a neighbour."""
    bodies = [HELLO | {"prompt": f"{i} beginnings", "max_tokens": 12, "seed": 5} for i in range(8)]
    alone = [answer(two, body) for body in bodies]
    assert {status for status, _ in alone} == {200}
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda body: answer(two, body), bodies))
    assert [texts(body) for _, body in together] == [texts(body) for _, body in alone]


def test_all_listen_on_loopback_only(two: int):
    assert foreign_listeners(os.getpid()) == []


def test_a_replica_that_dies_is_made_good_for(two: int):
    """The answer is that of an undisturbed run, and there are two replicas again."""
    undisturbed = answer(two, LASTS)
    with ThreadPoolExecutor(1) as pool:
        disturbed = pool.submit(answer, two, LASTS)
        kill(the_one_that_works())
        status, body = disturbed.result(LONG)
    assert (status, texts(body)) == (200, texts(undisturbed[1]))
    until(lambda: len(workers(os.getpid(), REPLICA)) == 2, "the replica was replaced")


def test_a_stream_whose_replica_dies_ends_with_an_error(two: int):
    """After events that are whole, and without [DONE]."""
    with asked_of_one(two, LASTS | {"max_tokens": 900, "stream": True}) as (response, working):
        first = response.readline()
        kill(working)
        events = (first + response.read()).decode().strip().split("\n\n")
    *chunks, last = (json.loads(event.removeprefix("data: ")) for event in events)
    assert all("choices" in chunk for chunk in chunks) and len(chunks) >= 1
    assert "died in the middle" in last["error"]["message"]


def test_a_request_on_which_every_engine_hangs(two: int):
    """The engine is given up, and the request once more with the next; after two, that is said."""
    status, body = answer(two, HANGS)
    assert status == 503 and "two replicas, one after the other" in body["error"]["message"]
    assert answer(two, HELLO | {"max_tokens": 3})[0] == 200


def test_a_client_that_goes_ends_its_request(two: int):
    """Long before it would have ended by itself, the replica has nothing to do."""
    with asked_of_one(two, LASTS | {"max_tokens": 1000, "stream": True}) as (response, working):
        response.readline()
    until(lambda: WORKING not in title(working), "the replica has stopped working")
    status, body = answer(two, HELLO | {"max_tokens": 2})
    assert status == 200, body


def test_more_than_can_wait(two: int):
    """Two replicas take 8 requests each and 10 wait: of 40 some are told to come back, and all others are answered."""
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda i: answer(two, HELLO | {"prompt": f"{i}", "max_tokens": 30}), range(40)))
    statuses = [status for status, _ in answers]
    assert set(statuses) == {200, 429} and statuses.count(200) >= WAITING, statuses
    assert {body["error"]["code"] for status, body in answers if status == 429} == {"rate_limit_exceeded"}


def test_what_the_application_refuses(two: int):
    status, body = answer(two, HELLO | {"model": "large"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    status, body = answer(two, HELLO | {"logprobs": 3})
    assert (status, body["error"]["param"]) == (400, "logprobs")


def test_the_official_client(two: int):
    """As a whole and as a stream."""
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{two}/v1", api_key="none", max_retries=0)
    whole = client.completions.create(model="tiny", prompt="Hello", max_tokens=9, seed=3)
    stream = client.completions.create(model="tiny", prompt="Hello", max_tokens=9, seed=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    assert [model.id for model in client.models.list()] == ["tiny"]


def test_too_many_engines_are_refused_at_once():
    with pytest.raises(UserError, match="1000 engines need a core each, and this machine has"), started(1000):
        pytest.fail("Ray was started")
