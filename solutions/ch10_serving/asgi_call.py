"""An HTTP request as plain data, which can be sent to another process, and an ASGI application that is called with it.

A replica has the whole application of this chapter in it, and nothing that listens: the ingress, which does listen,
sends it requests, and gets back what the application would have sent to a client.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass(frozen=True)
class HttpRequest:
    """A request, read to its end.

    Attributes:
        headers: as ASGI has them: names in lower case.
        beginning: what requests with the same prefix have in common, for the router; b"" if it has none.
    """

    method: str
    path: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    beginning: bytes = b""

    def with_body(self, body: bytes) -> "HttpRequest":
        """The same request with another body."""
        length = (b"content-length", str(len(body)).encode())
        dropped = (b"content-length", b"transfer-encoding")
        return replace(self, body=body, headers=(*(h for h in self.headers if h[0] not in dropped), length))

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(self.headers),
        }


async def call_asgi(app: ASGIApp, request: HttpRequest) -> AsyncIterator[Message]:
    """What an application sends as its answer, message by message.

    A caller that stops listening (closes the generator, is cancelled) is to the application a client that has gone.
    """
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    gone = asyncio.Event()
    parts = iter([{"type": "http.request", "body": request.body, "more_body": False}])

    async def receive() -> Message:
        if (part := next(parts, None)) is not None:
            return part
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        try:
            await app(request.scope(), receive, messages.put)
        finally:
            messages.put_nowait(None)

    running = asyncio.ensure_future(run())
    try:
        while (message := await messages.get()) is not None:
            yield message
        await running
    finally:
        gone.set()
        await asyncio.gather(running, return_exceptions=True)
