"""Errors on the wire: whatever goes wrong, the caller gets the API's error object and a status that fits.

    {"error": {"message": "...", "type": "invalid_request_error", "param": "temperature", "code": null}}

What FastAPI, Starlette and pydantic would answer is turned into it as well: their own answers have other shapes, and a
client that looks for `error` would find nothing. A traceback goes to the server's log alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

TYPES = {401: "authentication_error", 429: "rate_limit_error", 503: "service_unavailable_error"}
CODES = {
    401: "invalid_api_key",
    405: "method_not_allowed",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "service_unavailable",
}


class ApiError(HTTPException):
    """An error that the caller is told about.

    Args:
        status: of HTTP.
        message: what is wrong, where, and what to do.
        param: the parameter at fault, such as "messages[0].content".
        code: for programs; by default the one that goes with the status, if one does.
        headers: of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.param, self.code = param, code or CODES.get(status)

    def body(self) -> dict[str, Any]:
        by_status = "server_error" if self.status_code >= 500 else "invalid_request_error"
        kind = TYPES.get(self.status_code, by_status)
        return {"error": {"message": self.detail, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status_code, self.headers)


def of_validation(error: RequestValidationError) -> ApiError:
    """The first of the mistakes that pydantic found. What the caller sent is not repeated."""
    first = error.errors()[0]
    context = first.get("ctx", {})
    param = context.get("param") or place(first["loc"][1:])
    match first["type"]:
        case "json_invalid":
            return ApiError(400, f"the body is not JSON: {context.get('error')} (character {first['loc'][-1]})")
        case "missing" if param:
            return ApiError(400, f"{param} is missing", param)
        case "missing":
            return ApiError(400, "the request has no body; send a JSON object")
        case "extra_forbidden":
            return ApiError(400, f"{param}: there is no such parameter", param, "unknown_parameter")
        case "model_attributes_type" | "model_type" if not param:
            return ApiError(400, "the body is JSON, but not an object; send {...}")
        case "for_the_caller":  # wire.py has written the whole message
            return ApiError(400, first["msg"], param, context.get("code"))
        case _:
            return ApiError(400, f"{param or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}", param)


def place(path: Sequence[int | str]) -> str | None:
    """ "messages[0].content" for ("messages", 0, "content"); None for what lies in no parameter.

    The names may be the caller's: in the message there is at most a line of them, and nothing that UTF-8 has not.
    """
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text[:100].encode(errors="replace").decode().removeprefix(".") or None


def of_http(error: HTTPException) -> ApiError:
    """What Starlette and FastAPI raise by themselves: no such path, not this method, a body that cannot be read."""
    if isinstance(error, ApiError):
        return error
    message = {
        400: "the body cannot be read as JSON; is it nested too deeply, or not in UTF-8?",
        404: "there is no such path; see /v1/completions, /v1/chat/completions, /v1/models, /health and /metrics",
    }
    return ApiError(error.status_code, message.get(error.status_code, str(error.detail)), headers=error.headers)


def add_handlers(app: FastAPI) -> None:
    """Let all errors of this application become error objects."""

    async def validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return of_validation(error).response()

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return of_http(error).response()

    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return ApiError(500, "the server has made a mistake; its log says more").response()

    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
