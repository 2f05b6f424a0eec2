"""The application: chapter 9's engine behind the OpenAI API.

    POST /v1/completions, /v1/chat/completions    GET /v1/models, /v1/models/NAME, /health, /metrics

It is an ordinary FastAPI application, for uvicorn (serve.py) or whatever else runs one. There are no pages of
documentation, and no CORS headers: a page in a browser is not meant to reach it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import ClientDisconnect

from ch02_continuous_batching import RequestOutput
from ch10_serving.answers import ChatAnswer, CompletionAnswer, usage
from ch10_serving.api_errors import add_handlers
from ch10_serving.call import Call
from ch10_serving.choices import engine_requests, num_choices
from ch10_serving.chunk_text import ChunkText
from ch10_serving.guard import Guard
from ch10_serving.leaving import unless_gone
from ch10_serving.metrics import CountedAnswers
from ch10_serving.service import Service
from ch10_serving.settings import Limits
from ch10_serving.streaming import EventResponse, Stream
from ch10_serving.wire import ChatRequest, CompletionRequest

CLIENT_CLOSED_REQUEST = 499  # as nginx calls it; no client sees it


def create_app(
    service: Service, limits: Limits, hosts: frozenset[str] | None = None, key: str | None = None
) -> FastAPI:
    """The application around a service, which it starts and ends.

    Args:
        hosts, key: see Guard.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"auto_configure": False},  # figures go out by /metrics alone, whatever the environment says
    )
    add_handlers(app)
    app.add_exception_handler(ClientDisconnect, client_gone)
    app.add_middleware(Guard, service=service, hosts=hosts, key=key, largest_body=limits.body)
    app.add_middleware(CountedAnswers, metrics=service.metrics)

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await answer(service, body, request, CompletionAnswer(body.model))

    @app.post("/v1/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        return await answer(service, body, request, ChatAnswer(body.model))

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_card(service)]}

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        service.check_model(name)
        return model_card(service)

    @app.get("/health")
    async def health() -> Response:
        trouble = service.trouble()
        return JSONResponse({"status": trouble or "ok"}, 503 if trouble else 200)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return app


async def answer(
    service: Service, body: CompletionRequest | ChatRequest, request: Request, form: CompletionAnswer
) -> Response:
    """Serve one call, streamed or as a whole."""
    service.check_model(body.model)
    call = service.open_call(num_choices(body), body.stream)
    with ExitStack() as stack:
        stack.callback(call.cancel)
        prompts = await asyncio.to_thread(service.reader.read, body)
        requests = engine_requests(body, prompts, service.reader.max_length)
        call.start(requests)
        service.metrics.prompt_tokens.inc(sum(map(len, prompts)))
        if not body.stream:
            last = await unless_gone(request.receive, last_outputs(call))
            counted = usage(prompts, sum(len(output.output_ids) for output in last))
            return JSONResponse(form.whole(last, counted))
        texts = [ChunkText(service.tokenizer, in_engine=bool(body.stop)) for _ in requests]
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        stream = Stream(call, form, texts, prompts, with_usage, lambda: len(service.streams))
        response = EventResponse(stream, service.streams)
        stack.pop_all()  # from here on it is the response that cancels
        return response


async def last_outputs(call: Call) -> list[RequestOutput]:
    """The last output of each choice, in order, when all have ended."""
    last: dict[int, RequestOutput] = {}
    while outputs := await call.more():
        last |= {choice: output for choice, output in outputs if output.finish_reason is not None}
    return [last[choice] for choice in sorted(last)]


def model_card(service: Service) -> dict[str, Any]:
    return {"id": service.model, "object": "model", "created": service.created, "owned_by": "local"}


async def client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)
