"""In front of the replicas: what makes one server of them, also when one of them dies.

A replica that dies takes its requests with it, but what they asked for is known here, so they can be sent to another
one. The answer is then the same as if nothing had happened, provided that everything random about it was decided
before: a request without a seed gets one here, not in the replica. A request can be repeated as long as the client has
seen nothing of its answer. A stream of which it has seen the beginning ends with an error event, never without a word.

A request is repeated once only: if it was this request that has killed the replica, it must not kill them all.
"""

import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from ch10_serving.affinity import beginning
from ch10_serving.api_errors import ApiError
from ch10_serving.asgi_call import HttpRequest
from ch10_serving.leaving import unless_gone

SEEDS = 2**53  # a client in JavaScript can read them
log = logging.getLogger(__name__)


class Ingress:
    """An ASGI application that has its requests answered by replicas.

    Args:
        call: sends a request to a replica, and yields the messages of its answer.
        deaths: what `call` raises when the replica has died. busy: when none can take a request now.
        largest_body: bytes.
    """

    def __init__(
        self,
        call: Callable[[HttpRequest], AsyncIterator[Message]],
        deaths: tuple[type[BaseException], ...],
        busy: tuple[type[BaseException], ...],
        largest_body: int,
    ) -> None:
        self.call, self.deaths, self.busy, self.largest_body = call, deaths, busy, largest_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        try:
            request = await self.read(scope, receive)
            await unless_gone(receive, self.answer(request, send))
        except ApiError as error:
            await error.response()(scope, receive, send)
        except ClientDisconnect:
            pass

    async def read(self, scope: Scope, receive: Receive) -> HttpRequest:
        """The whole request. Raises ApiError if it is too large."""
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            if len(body) > self.largest_body:
                raise ApiError(413, f"the body is larger than {self.largest_body} bytes; send less at a time")
            if not message.get("more_body", False):
                return prepared(HttpRequest(scope["method"], scope["path"], tuple(map(tuple, scope["headers"])), body))

    async def answer(self, request: HttpRequest, send: Send) -> None:
        """Send a replica's answer on. Raises ApiError if there is none, and nothing of one was sent."""
        for attempt in ("first", "second"):
            relay = Relay(send)
            try:
                async with aclosing(self.call(request)) as messages:  # type: ignore[type-var] # it is a generator
                    async for message in messages:
                        await relay.take(message)
                return
            except self.busy:
                raise ApiError(
                    429, "all replicas have as many requests as they may; come back later", headers=RETRY
                ) from None
            except self.deaths as error:
                log.warning("a replica has died with a request, the %s time: %s", attempt, type(error).__name__)
                if relay.sent:
                    await relay.cut(ApiError(503, "the replica has died in the middle of this answer; ask again"))
                    return
        raise ApiError(503, "two replicas, one after the other, have died with this request", headers=RETRY)


RETRY = {"Retry-After": "5"}


class Relay:
    """Sends one answer on: a stream as it comes, any other as a whole, when all of it is there.

    Attributes:
        sent: the client has seen something of it.
    """

    def __init__(self, send: Send) -> None:
        self.send = send
        self.held: list[Message] = []
        self.sent = False

    async def take(self, message: Message) -> None:
        self.held.append(message)
        headers = dict(self.held[0].get("headers", ())) if not self.sent else {}
        is_stream = self.sent or headers.get(b"content-type", b"").startswith(b"text/event-stream")
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if is_stream or is_last:
            self.sent = True
            for each in self.held:
                await self.send(each)
            self.held = []

    async def cut(self, error: ApiError) -> None:
        """End a stream with an error."""
        event = f"data: {json.dumps(error.body())}\n\n".encode()
        await self.send({"type": "http.response.body", "body": event, "more_body": False})


def prepared(request: HttpRequest, draw: Callable[[], int] = lambda: secrets.randbelow(SEEDS)) -> HttpRequest:
    """A request with all that has to be the same if it is repeated: its seed; and what the router wants to know.

    What is no JSON object is sent on as it is: the replica knows what to say to that.
    """
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError):
        return request
    if not isinstance(body, dict):
        return request
    if body.get("seed") is None:
        request = request.with_body(json.dumps(body | {"seed": draw()}).encode())
    return HttpRequest(request.method, request.path, request.headers, request.body, beginning(body))
