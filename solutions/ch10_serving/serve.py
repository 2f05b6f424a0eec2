"""uvicorn with this server's limits, and a stop that lets those who are inside finish.

On SIGINT (Ctrl-C) or SIGTERM the server goes on answering, new requests with 503, until those inside have ended or have
had their time. uvicorn alone would close its door at once: to a load balancer that is a failure, where a 503 is an
answer. A second Ctrl-C ends it without waiting.
"""

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Callable

import uvicorn

from ch10_serving.app import create_app
from ch10_serving.connections import limited
from ch10_serving.service import Service
from ch10_serving.settings import Limits
from toolkit.errors import UserError

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which serves those inside to their ends before it closes.

    Args:
        on_start: called as soon as requests can come.
    """

    def __init__(
        self, service: Service, limits: Limits, config: uvicorn.Config, on_start: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self.service, self.limits, self.on_start = service, limits, on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.service.stopping = True
        if not await self.is_empty(self.limits.drain):
            self.service.cancel_all()
            await self.is_empty(self.limits.drain)
        await super().shutdown(sockets)

    async def is_empty(self, seconds: float) -> bool:
        """Wait until all requests have ended and all streams are sent, or the time is up. Returns whether they have."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while self.service.admission.inside or self.service.streams:
            if clock() > end or self.force_exit:
                return False
            await asyncio.sleep(0.05)
        return True


def server_for(
    service: Service, host: str, key: str | None, limits: Limits, on_start: Callable[[], object]
) -> DrainingServer:
    """A server that is not running yet. Raises UserError as `check_host` does."""
    check_host(host, key)
    hosts = (LOCAL_NAMES | {host}) if is_loopback(host) else None
    config = uvicorn.Config(
        create_app(service, limits, hosts, key or None),
        loop="asyncio",
        http=limited(limits),
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=limits.head,
        timeout_graceful_shutdown=5,  # what is left then is a client that does not read
    )
    return DrainingServer(service, limits, config, on_start)


def check_host(host: str, key: str | None) -> None:
    """Raises UserError for a host that others can reach, where no key is asked for."""
    if not key and not is_loopback(host):
        raise UserError(
            f"HOST={host} can be reached by others: set the environment variable SERVE_API_KEY to a secret that "
            "callers send along, or leave HOST out"
        )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a server that listens on this address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises UserError where that cannot be."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"HOST={host} PORT={port}: cannot listen there: {reason}; take another port or host") from None


def serve(server: DrainingServer, listening: socket.socket) -> None:
    """Serve until a signal comes, and return when all is closed."""
    signals = (signal.SIGINT, signal.SIGTERM)
    # uvicorn raises the signal that has stopped it once more when it is done; by then there is nothing left to stop.
    before = [signal.signal(each, lambda *_: None) for each in signals]
    try:
        server.run([listening])
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
