"""An answer as server-sent events: `data: {...}` and an empty line for each chunk, `data: [DONE]` at the end.

A stream never ends without a word: if the request cannot be served to its end, the last event is an error object. Its
status was sent long before, so that is the only place left to say it.

How many chunks? One for each token would be 40,000 a second with 64 streams of a small model, and a chunk takes this
thread 0.1 to 0.3 ms, in which it holds Python's lock, and the engine waits for it. So all streams together share a
number of chunks per second that this thread can make beside the engine: a stream alone gets each token as it comes, and
one of 64 gets the tokens of a few steps in one chunk. A reader that is slow gets what has come meanwhile in one chunk,
too: nothing waits for it but its own outputs, of which there are no more than it asked for.
"""

import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ch02_continuous_batching import RequestOutput
from ch10_serving.answers import CompletionAnswer, finish_reason, usage
from ch10_serving.api_errors import ApiError
from ch10_serving.call import Call
from ch10_serving.chunk_text import ChunkText
from ch10_serving.leaving import unless_gone

CHUNKS_PER_SECOND = 1000  # of all streams together
log = logging.getLogger(__name__)


def event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Stream:
    """One streamed answer.

    Args:
        texts: of the choices.
        prompts: the token ids of each, for the usage.
        with_usage: whether the client wants the usage as a last chunk.
        num_streams: how many there are at the moment.
    """

    def __init__(
        self,
        call: Call,
        answer: CompletionAnswer,
        texts: list[ChunkText],
        prompts: list[list[int]],
        with_usage: bool,
        num_streams: Callable[[], int],
    ) -> None:
        self.call, self.answer, self.texts, self.prompts = call, answer, texts, prompts
        self.with_usage, self.num_streams = with_usage, num_streams
        self.num_tokens = 0

    async def events(self) -> AsyncIterator[bytes]:
        """All events of the answer, each as bytes; several at a time where there are several."""
        try:
            for index in range(len(self.texts)):
                if (opening := self.answer.opening(index)) is not None:
                    yield self.spelled(opening)
            rest = 0.0
            while outputs := await self.call.more(rest):
                if chunks := b"".join(self.chunks(outputs)):
                    yield chunks
                rest = self.num_streams() / CHUNKS_PER_SECOND
            if self.with_usage:
                yield event(self.answer.closing(usage(self.prompts, self.num_tokens)))
            yield b"data: [DONE]\n\n"
        except ApiError as error:
            yield event(error.body())
        except Exception:
            log.exception("a stream has failed")
            yield event(ApiError(500, "the server has made a mistake; its log says more").body())

    def chunks(self, outputs: list[tuple[int, RequestOutput]]) -> list[bytes]:
        """The chunks for what has come, one for each choice that has something new to show."""
        by_choice: dict[int, list[RequestOutput]] = {}
        for index, output in outputs:
            by_choice.setdefault(index, []).append(output)
            self.num_tokens += len(output.new_token_ids)
        made = []
        for index, of_choice in by_choice.items():
            reason = finish_reason(of_choice[-1])
            text = self.texts[index].more(of_choice)
            if text or reason:
                made.append(self.spelled(self.answer.chunk(index, text, reason)))
        return made

    def spelled(self, chunk: dict[str, Any]) -> bytes:
        """A chunk as an event. Who wants the usage at the end finds the word in each chunk, as the API has it."""
        return event(chunk | {"usage": None} if self.with_usage else chunk)


class EventResponse(StreamingResponse):
    """Sends a stream; a client that goes away takes its requests with it.

    Args:
        streams: this is among them while it is being sent.
    """

    def __init__(self, stream: Stream, streams: set[object]) -> None:
        super().__init__(stream.events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self.call, self.streams = stream.call, streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.streams.add(self)
        try:
            await unless_gone(receive, self.stream_response(send))
        except ClientDisconnect:
            pass
        finally:
            self.streams.discard(self)
            self.call.cancel()
