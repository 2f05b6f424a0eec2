"""The limits of the server: what a single client can take, and what all of them can."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits that do not depend on the engine.

    Attributes:
        body: bytes of a request's body.
        head: bytes of a request's first line and headers.
        waiting: requests that may wait behind those that run; beyond that they are refused with 429.
        connections: open at a time; beyond that they are answered with 503.
        patience: seconds that a request may take to arrive, first line to last byte.
        stall: seconds that a client may take to read what was sent to it, before more is sent.
        drain: seconds that requests may take to end after the server was told to stop.
    """

    body: int = 2**20
    head: int = 2**14
    waiting: int = 512
    connections: int = 1000
    patience: float = 20.0
    stall: float = 60.0
    drain: float = 60.0
