"""Connections that do not get tired: what uvicorn leaves to a proxy in front of it, for a server that has none.

A client that sends a byte a minute, or reads one, costs a connection for as long as it likes ("slowloris"), and so does
one that only connects. So a request has a time to arrive in, first byte to last, and an answer a time to be read in.
Beyond a number of connections the answer is 503.
"""

import asyncio
import json
import socket
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ch10_serving.api_errors import ApiError
from ch10_serving.settings import Limits

MOST_PIPELINED = 2**16  # bytes that may come while an answer is being made


async def too_many(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "5", "Connection": "close"}
    await ApiError(503, "too many connections; come back later", headers=headers).response()(scope, receive, send)


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with limits; `limited` makes one for uvicorn's setting `http`."""

    limits = Limits()

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (as uvicorn has it)
        super().connection_made(transport)
        # An answer is several writes. The system would hold each back until the client has acknowledged the one before,
        # on Linux for up to 40 ms. asyncio switches that off only for sockets that it has made itself.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.arrival: asyncio.TimerHandle | None = None  # when patience ends
        self.stalled: asyncio.TimerHandle | None = None
        self.num_pipelined = 0
        if len(self.connections) > self.limits.connections:
            self.app = too_many
        self.wait_for_request()

    def data_received(self, data: bytes) -> None:
        if self.is_answering():
            self.num_pipelined += len(data)
            if self.num_pipelined > MOST_PIPELINED:
                self.transport.abort()
                return
        elif self.arrival is None:  # the first bytes of the next request
            self.wait_for_request()
        super().data_received(data)
        if self.is_answering():
            self.stop_waiting()
            self.flow.resume_reading()  # uvicorn pauses when the next request is there, and would miss the client's end

    def on_response_complete(self) -> None:
        answered = self.cycle
        super().on_response_complete()  # begins with the next request if it has come already
        if self.cycle is not answered and not self.is_answering():
            self.wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def is_answering(self) -> bool:
        """A request has come as a whole, and its answer has not ended."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def wait_for_request(self) -> None:
        self.num_pipelined = 0
        self.arrival = self.loop.call_later(self.limits.patience, self.lose_patience)

    def stop_waiting(self) -> None:
        if self.arrival is not None:
            self.arrival.cancel()
            self.arrival = None

    def lose_patience(self) -> None:
        """The request has not come in time. It is told so unless an answer has begun, and the connection ends."""
        if self.cycle is None or self.cycle.response_complete:
            self.send_error(408, f"the request did not arrive within {self.limits.patience:g} s")
        self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has a head that is too large."""
        self.send_error(400, f"no HTTP request that can be read, or more than {self.limits.head} bytes of headers")
        self.transport.close()

    def send_error(self, status: int, message: str) -> None:
        body = json.dumps(ApiError(status, message).body()).encode()
        head = f"HTTP/1.1 {status} Error\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"Connection: close\r\n\r\n" + body)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled = self.loop.call_later(self.limits.stall, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.stalled is not None:
            self.stalled.cancel()
            self.stalled = None


def limited(limits: Limits) -> type[PatientProtocol]:
    """The protocol with these limits."""
    return type("LimitedProtocol", (PatientProtocol,), {"limits": limits})
