"""A real server on a free port of loopback, in a thread of the test process, and clients of plain sockets for it."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Queue
from typing import Any

from ch09_persistent_batch import PersistentEngine
from ch10_serving import Limits, Service, listen, server_for
from toolkit.commands.ledger import leftovers
from toolkit.models import load_model

LONG = 60  # seconds; only ever waited for if something hangs
ROWS, NUM_BLOCKS, BLOCK_SIZE, MAX_LENGTH = 16, 256, 16, 512
PLACES = 24
SMALL = 4096
CHAT = "/v1/chat/completions"


class Live:
    """A server that runs. The simulated GPU is reset before the first one of a module, not here.

    Attributes:
        steps_allowed: None: the engine runs freely; otherwise it waits for each step until it may make one (`held`).
    """

    def __init__(self, places: int = PLACES, limits: Limits | None = None, key: str | None = None) -> None:
        loaded = load_model("tiny")
        self.tokenizer: Any = loaded.tokenizer
        self.engine = PersistentEngine(
            loaded.model,
            loaded.tokenizer,
            max_rows=ROWS,
            num_blocks=NUM_BLOCKS,
            block_size=BLOCK_SIZE,
            max_length=MAX_LENGTH,
            stream_text=False,
        )
        self.steps_allowed: Queue[None] | None = None
        self.asks = False  # for a step, and may not make it
        step = self.engine.step

        def held_back() -> Any:
            allowed = self.steps_allowed
            while allowed is not None and self.steps_allowed is allowed:
                try:
                    allowed.get_nowait()
                except Empty:
                    self.asks = True
                    time.sleep(0.002)
                    continue
                self.asks = False
                outputs = step()
                allowed.task_done()
                return outputs
            self.asks = False
            return step()

        self.engine.step = held_back  # type: ignore[method-assign]
        self.service = Service(self.engine, loaded.tokenizer, "tiny", places)
        self.socket = listen("127.0.0.1", 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)  # so that a reader can be slow
        self.port: int = self.socket.getsockname()[1]
        self.started = threading.Event()
        self.server = server_for(self.service, "127.0.0.1", key, limits or Limits(), self.started.set)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        assert self.started.wait(LONG), "the server does not start"

    @property
    def stands_still(self) -> bool:
        """Whether the engine has finished all steps that it was allowed, and asks for the next one.

        Before it asks, its thread may still hand out the last step's outputs, and take commands.
        """
        return self.asks and self.steps_allowed is not None and self.steps_allowed.unfinished_tasks == 0

    def run(self) -> None:
        asyncio.run(self.server.serve([self.socket]))

    def in_loop(self, function: Callable[[], Any]) -> Any:
        """The result of a function that is called in the event loop's thread."""

        async def call() -> Any:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self.service.mailbox.loop).result(LONG)

    @contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """The engine stands still; the function that is given lets it make so many steps."""
        allowed: Queue[None] = Queue()
        self.steps_allowed = allowed

        def let(steps: int) -> None:
            for _ in range(steps):
                allowed.put(None)

        try:
            yield let
        finally:
            self.steps_allowed = None

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(LONG)
        assert not self.thread.is_alive(), "the server was told to stop, and does not"

    def check_idle(self) -> None:
        """No request is inside any more, and everything was given back."""
        service = self.service
        until(lambda: not service.admission.inside and not service.streams, "all requests have ended and left")
        until(lambda: not self.engine.has_work and service.server.gate.inside == 0, "the engine has no work")
        assert service.server.thread.is_alive(), "the engine's thread has ended"
        left = leftovers(self.engine)
        assert not left, "the engine is idle, and yet: " + "; ".join(left)

    # --- clients ---

    def get(self, path: str, **headers: str) -> "Answer":
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> "Answer":
        """`body`: bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path, data, {"Content-Type": "application/json"} | headers)

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> "Answer":
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONG)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def completion(self, prompt: Any = "Hello", **values: Any) -> "Answer":
        return self.post("/v1/completions", completion(prompt, **values))

    def connect(self, small: bool = False) -> socket.socket:
        """`small`: with little room for what was not read yet."""
        connection = socket.socket()
        if small:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        connection.settimeout(LONG)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def open(self, body: dict[str, Any], path: str = "/v1/completions") -> socket.socket:
        """A connection over which a request was sent, and nothing was read yet."""
        connection = self.connect()
        connection.sendall(spelled(body, path))
        return connection


class Answer:
    """What came back, as a whole."""

    def __init__(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.status, self.headers, self.data = status, headers, data

    @property
    def json(self) -> Any:
        return json.loads(self.data)

    @property
    def texts(self) -> list[str]:
        assert self.status == 200, self.data
        return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in self.json["choices"]]

    @property
    def error(self) -> dict[str, Any]:
        """The API's error object; any other shape is a mistake."""
        body = self.json
        assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}, body
        assert b"Traceback" not in self.data and b'File "' not in self.data, self.data
        return body["error"]

    @property
    def events(self) -> list[Any]:
        assert self.status == 200, self.data
        return events_in(self.data)


def events_in(data: bytes) -> list[Any]:
    """The events of a stream, decoded, "[DONE]" as it is; the framing is checked."""
    assert data.endswith(b"\n\n"), f"a stream ends in the middle of an event: {data[-80:]!r}"
    found = []
    for event in data.decode().removesuffix("\n\n").split("\n\n"):
        assert event.startswith("data: ") and "\n" not in event, f"no event of one line: {event!r}"
        text = event.removeprefix("data: ")
        found.append(text if text == "[DONE]" else json.loads(text))
    return found


def streamed_text(events: list[Any], index: int = 0) -> str:
    """The pieces of one choice put together."""
    pieces = [c for event in events[:-1] for c in event.get("choices", ()) if c["index"] == index]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in pieces)


def completion(prompt: Any = "Hello", **values: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0} | values


def chat(content: str = "Hello", **values: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "max_tokens": 8, "temperature": 0} | values


def spelled(body: dict[str, Any], path: str = "/v1/completions", keep: bool = False) -> bytes:
    """A request as it goes over the wire. `keep`: the connection is kept behind the answer, and closed otherwise."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += "" if keep else "Connection: close\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def read_all(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        parts.append(b"")
    connection.close()
    return b"".join(parts)


def parsed(data: bytes) -> Answer:
    """A whole answer as it came over a socket."""

    class Read:
        def makefile(self, *_: Any) -> Any:
            import io

            return io.BytesIO(data)

    response = http.client.HTTPResponse(Read())  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, dict(response.getheaders()), response.read())


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until it holds; `what` says for the failure what should have become true."""
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, f"waited {LONG} s, and it is not true that {what}"
        time.sleep(0.005)
