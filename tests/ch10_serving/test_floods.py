"""Too much, too slow, or no HTTP at all: bounded, answered where it can be, and served neighbours."""

import socket
import threading
import time

import pytest

from ch10_serving import Limits
from tests.ch10_serving.live import CHAT, Live, chat, completion, parsed, read_all, spelled, until
from tests.simulated import needs_simulator

pytestmark = needs_simulator
# Small enough to be met in a test.
LIMITS = Limits(body=10_000, head=4096, connections=8, patience=2.0, stall=1.0)
CHUNK = b"1000\r\n" + b"x" * 4096 + b"\r\n"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def served():
    from toolkit import simgpu

    simgpu.reset("eager")
    live = Live(limits=LIMITS)
    yield live
    live.stop()


def closes(connection: socket.socket) -> bytes:
    """What comes until the server closes; a failure if it does not."""
    try:
        return read_all(connection)
    except TimeoutError:
        pytest.fail("the server keeps the connection open")


def test_a_body_that_says_it_is_too_large(live):
    """Refused before any of it is read."""
    connection = live.connect()
    connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 99999999\r\n\r\n")
    answer = parsed(closes(connection))
    assert answer.status == 413 and "10000 bytes" in answer.error["message"]


def test_a_body_that_is_too_large(live):
    answer = live.completion("x" * 10_000)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_a_body_that_does_not_say_how_large_it_is(live):
    """In chunks: it is counted as it comes."""
    connection = live.connect()
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 5)
    answer = parsed(closes(connection))
    assert answer.status == 413 and "10000 bytes" in answer.error["message"]


def test_a_body_without_end(live):
    """The answer is 413, and the connection ends when the request's time is up."""
    connection = live.connect()
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    sent = 0
    connection.setblocking(False)
    with pytest.raises((BlockingIOError, ConnectionError)):  # the server reads no more, or has closed
        while sent < 50_000_000:
            sent += connection.send(CHUNK)
            time.sleep(0.0005)
            if b"413" in peek(connection):
                raise ConnectionError
    assert sent < 50_000_000
    connection.setblocking(True)
    connection.close()
    assert live.completion().status == 200


def peek(connection: socket.socket) -> bytes:
    try:
        return connection.recv(200, socket.MSG_PEEK)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize(
    "flood",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000,
        b"GET /" + b"x" * 500_000,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 500_000,
    ],
    ids=["many headers", "a long path", "a long header"],
)
def test_a_flood_of_headers(live, flood):
    """Refused after a few thousand bytes, with the error object; or cut off while it still sends."""
    connection = live.connect()
    try:
        connection.sendall(flood)
    except ConnectionError:
        pass
    data = closes(connection)
    if data:  # else the rest of the flood has pushed the answer out
        answer = parsed(data)
        assert answer.status == 400 and "4096 bytes of headers" in answer.error["message"]
    assert live.completion().status == 200


@pytest.mark.parametrize(
    "noise",
    [b"\x16\x03\x01\x02\x00\x01\x00", b"\x00" * 100, b"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\nSM", b"GET /\r\n"],
    ids=["TLS", "zeros", "HTTP/2", "HTTP/0.9"],
)
def test_what_is_no_http(live, noise):
    connection = live.connect()
    connection.sendall(noise + b"\r\n\r\n")
    answer = parsed(closes(connection))
    assert answer.status in (400, 404)
    assert b'{"error": {"message": "no HTTP request that can be read' in answer.data or answer.status == 404


def test_contradicting_lengths(live):
    """The beginning of a request that a proxy and a server read differently: no HTTP."""
    connection = live.connect()
    connection.sendall(HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello")
    assert parsed(closes(connection)).status == 400


@pytest.mark.parametrize(
    "beginning",
    [b"", b"POST /v1/comp", HEAD, HEAD + b"Content-Length: 100\r\n\r\n", HEAD + b'Content-Length: 100\r\n\r\n{"model"'],
    ids=["nothing", "half a line", "half a head", "no body", "half a body"],
)
def test_a_request_that_does_not_come(live, beginning):
    """A byte now and then is not enough: after the patience the connection ends, with status 408."""
    connection = live.connect()
    connection.sendall(beginning)
    drip = threading.Thread(target=drip_on, args=(connection, b"X" if b"\r\n\r\n" in beginning else b"x"))
    drip.start()
    data = closes(connection)
    drip.join()
    if data and b"\r\n\r\n" not in beginning:
        assert parsed(data).status == 408 and "did not arrive within 2 s" in parsed(data).error["message"]


def drip_on(connection: socket.socket, byte: bytes) -> None:
    try:
        for _ in range(50):
            time.sleep(0.1)
            connection.send(byte)
    except OSError:
        pass


def test_a_second_request_that_does_not_come(live):
    """Patience holds for each request of a connection, also for one that began before the first was answered."""
    connection = live.connect()
    first = spelled(completion(), keep=True)
    connection.sendall(first + HEAD + b"Content-Length: 100\r\n\r\n{")
    data = closes(connection)
    assert data.startswith(b"HTTP/1.1 200")


def test_requests_one_behind_the_other_over_one_connection(live):
    """Pipelined, a few of them: all are answered, in order."""
    connection = live.connect()
    one = spelled(completion(), keep=True)
    connection.sendall(one * 2 + spelled(completion()))
    assert closes(connection).count(b"HTTP/1.1 200") == 3


def test_a_flood_while_an_answer_is_made(live):
    """What comes behind a request is kept up to a bound; then the connection ends, and its request with it."""
    with live.held() as let:
        connection = live.connect()
        connection.sendall(spelled(completion(max_tokens=200), keep=True))
        until(lambda: live.service.admission.inside == 1, "it is inside")
        try:
            for _ in range(200):
                connection.sendall(b"x" * 4096)
        except ConnectionError:
            pass
        let(3)
        until(lambda: live.service.admission.inside == 0, "its request has ended with the connection")


def test_a_reader_that_does_not_read(live):
    """What was sent is not read for longer than it may take: the connection ends."""
    connection = live.connect(small=True)
    body = chat(max_tokens=80, n=16, stream=True, stream_options={"include_usage": True})
    connection.sendall(spelled(body, CHAT))
    until(lambda: live.service.admission.inside == 16, "its requests are inside")
    until(lambda: live.service.admission.inside == 0 and not live.service.streams, "the server has given it up")
    data = read_all(connection)
    assert not data.endswith(b"0\r\n\r\n"), "it was sent everything, so it was no slow reader"


def test_too_many_connections(live):
    """Beyond the bound: status 503 with Retry-After; when others have gone, there is room again."""
    idle = [live.connect() for _ in range(LIMITS.connections)]
    until(lambda: len(live.server.server_state.connections) == LIMITS.connections, "all of them are open")
    answer = live.completion()
    assert answer.status == 503 and answer.headers["retry-after"] and answer.error["message"].startswith("too many")
    for connection in idle:
        connection.close()
    until(lambda: not live.server.server_state.connections, "all of them are closed")
    assert live.completion().status == 200
