"""In front of the application: what is turned away before anything is read of it.

A server on loopback is not out of reach: any page that is open in a browser on the same machine can send requests to
it. It cannot read the answers (there are no CORS headers), but a GPU would have been kept busy. What a page can send
without asking first has one of three content types, and JSON is none of them, so JSON is asked for. A page can also
give its own name the address 127.0.0.1 ("DNS rebinding"), and would then read the answers as well; such requests show
by their Host header.
"""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ch10_serving.api_errors import ApiError
from ch10_serving.service import Service

OPEN_PATHS = ("/health",)  # no key is asked for: a load balancer has none


class Guard:
    """Checks host, key and size of each request.

    Args:
        hosts: names under which the server may be addressed; None: any, for a key is asked for.
        key: None: every client that reaches the server may use it.
        largest_body: bytes.
    """

    def __init__(
        self, app: ASGIApp, service: Service, hosts: frozenset[str] | None, key: str | None, largest_body: int
    ) -> None:
        self.app, self.service, self.hosts, self.largest_body = app, service, hosts, largest_body
        self.key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self.check(scope["method"], scope["path"], Headers(scope=scope))
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            """The body is counted as it comes, since a client need not tell its size beforehand."""
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.largest_body:
                raise self.too_large()
            return message

        await self.app(scope, counted, send)

    def check(self, method: str, path: str, headers: Headers) -> None:
        """Raises ApiError for what is turned away."""
        if self.hosts is not None and host_name(headers.get("host", "")) not in self.hosts:
            raise ApiError(403, "the Host header does not name this server; use its address", code="wrong_host")
        if self.key is not None and path not in OPEN_PATHS and not self.is_key(headers.get("authorization", "")):
            headers_back = {"WWW-Authenticate": "Bearer"}
            raise ApiError(401, "no valid API key; send it as Authorization: Bearer KEY", headers=headers_back)
        if method != "POST":
            return
        self.service.check_serving()
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "the body has to be JSON; send Content-Type: application/json")
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self.largest_body):
            raise self.too_large()

    def is_key(self, authorization: str) -> bool:
        """Compared in constant time: how long a comparison takes must not tell how much of a guess was right."""
        scheme, _, given = authorization.partition(" ")
        assert self.key is not None
        return hmac.compare_digest(given.strip().encode("latin-1"), self.key) and scheme.lower() == "bearer"

    def too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self.largest_body} bytes; send less at a time")


def host_name(host: str) -> str:
    """The name in a Host header, without its port; "" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
