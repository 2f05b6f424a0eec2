"""The requests of the OpenAI API, as far as this server serves them.

Types are strict: "5" is no number, and true is not 1. What is wrong with a value is said in one line that names the
parameter (api_errors.py); where pydantic would say it in many, for each type that it might have been, a function here
looks at the value first.
"""

from typing import Annotated, Any, Literal, LiteralString

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ch10_serving.not_here import refuse, without_what_is_not_here

MOST_CHOICES = 16
MOST_STOPS, LONGEST_STOP = 4, 256  # the engine looks for them after every token
INT64 = 2**63


def as_prompts(value: Any) -> list[str | list[int]]:  # noqa: ANN401
    """One prompt or several, each a text or its token ids, as a list of prompts."""
    prompts = value if isinstance(value, list) and not is_ids(value) else [value]
    if not prompts or not all(isinstance(each, str) or is_ids(each) for each in prompts):
        raise refuse("prompt: it is a string, a list of token ids, or a list of either", param="prompt")
    return prompts


def is_ids(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(type(each) is int for each in value)


def as_stops(value: Any) -> tuple[str, ...]:  # noqa: ANN401
    """One stop string or several, as a tuple."""
    stops = [value] if isinstance(value, str) else value
    right = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not right or not all(isinstance(each, str) and 0 < len(each) <= LONGEST_STOP for each in stops):
        message: LiteralString = "{param}: it is a string of 1 to {longest} characters, or a list of at most {most}"
        raise refuse(message, param="stop", longest=LONGEST_STOP, most=MOST_STOPS)
    return tuple(stops)


def as_text(value: Any) -> str:  # noqa: ANN401
    """A message's content: a string, or a list of parts of which all are text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(map(is_text_part, value)):
        raise refuse("content: it is a string or a list of text parts; images, audio and files are not served here")
    return "".join(part["text"] for part in value)


def is_text_part(part: object) -> bool:
    return isinstance(part, dict) and len(part) == 2 and part.get("type") == "text" and type(part.get("text")) is str


class Strict(BaseModel):
    """No parameter that is not declared, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def look_for_what_is_not_here(cls, body: Any) -> Any:  # noqa: ANN401
        return without_what_is_not_here(body)


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Sampled(Strict):
    """What both kinds of request have."""

    model: str
    max_tokens: int | None = Field(None, ge=1, lt=INT64)
    n: int = Field(1, ge=1, le=MOST_CHOICES)
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    stop: Annotated[tuple[str, ...], BeforeValidator(as_stops)] = ()
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    user: str | None = None  # taken, and not looked at

    @model_validator(mode="after")
    def options_need_a_stream(self) -> "Sampled":
        if self.stream_options is not None and not self.stream:
            raise refuse("stream_options: only with stream=true", param="stream_options")
        return self


class CompletionRequest(Sampled):
    max_tokens: int | None = Field(16, ge=1, lt=INT64)
    prompt: Annotated[list[str | list[int]], BeforeValidator(as_prompts)]


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(as_text)]


class ChatRequest(Sampled):
    max_completion_tokens: int | None = Field(None, ge=1, lt=INT64)
    messages: list[Message] = Field(min_length=1, max_length=4096)
