"""The answers of the OpenAI API: as a whole, and in chunks.

Completions and chats differ in how a choice is spelled; everything else of an answer is the same.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ch02_continuous_batching import FinishReason, RequestOutput
from ch10_serving.api_errors import ApiError

REASONS = {FinishReason.LENGTH: "length", FinishReason.EOS: "stop", FinishReason.STOP: "stop"}


def finish_reason(output: RequestOutput) -> str | None:
    """The API's word for why a choice has ended; None as long as it has not.

    Raises ApiError if the request could not be served to its end.
    """
    if output.finish_reason is None:
        return None
    if output.finish_reason not in REASONS:
        cancelled = output.finish_reason is FinishReason.CANCELLED
        reason = "the server is stopping" if cancelled else output.error or "it ended with an error"
        raise ApiError(503 if cancelled else 500, f"the request was not served to its end: {reason}")
    return REASONS[output.finish_reason]


def usage(prompts: Iterable[list[int]], num_output_tokens: int) -> dict[str, int]:
    num_prompt_tokens = sum(map(len, prompts))
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_output_tokens,
        "total_tokens": num_prompt_tokens + num_output_tokens,
    }


@dataclass(frozen=True)
class CompletionAnswer:
    """An answer of /v1/completions.

    Attributes:
        model: as the request names it.
        identity: of this answer; all of its chunks have the same.
    """

    model: str
    identity: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, kind: str = "text_completion") -> dict[str, Any]:
        return {"id": self.identity, "object": kind, "created": self.created, "model": self.model}

    def whole(self, last: list[RequestOutput], counted: dict[str, int]) -> dict[str, Any]:
        """The answer that is not streamed, made of the last output of each choice."""
        choices = [self.choice(i, output.text, finish_reason(output)) for i, output in enumerate(last)]
        return self.head() | {"choices": choices, "usage": counted}

    def choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": reason, "logprobs": None}

    def opening(self, index: int) -> dict[str, Any] | None:
        """The chunk with which a choice begins, if it begins with one."""
        return None

    def chunk(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        """A chunk with the next piece of a choice."""
        return self.head() | {"choices": [self.choice(index, text, reason)]}

    def closing(self, counted: dict[str, int]) -> dict[str, Any]:
        """The chunk with the usage, which comes last."""
        return self.chunk(0, "", None) | {"choices": [], "usage": counted}


@dataclass(frozen=True)
class ChatAnswer(CompletionAnswer):
    """An answer of /v1/chat/completions."""

    identity: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")

    def head(self, kind: str = "chat.completion") -> dict[str, Any]:
        return super().head(kind)

    def choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "finish_reason": reason, "logprobs": None}

    def opening(self, index: int) -> dict[str, Any]:
        return self.delta(index, {"role": "assistant", "content": ""}, None)

    def chunk(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        return self.delta(index, {"content": text} if text else {}, reason)

    def delta(self, index: int, delta: dict[str, str], reason: str | None) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self.head("chat.completion.chunk") | {"choices": [choice]}
