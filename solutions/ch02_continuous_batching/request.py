"""A request and its life: waiting, running, finished.

Everything the engine knows about a request is in one object. The scheduler moves it between the queues, the block
manager owns its `block_table`, and committing a step appends to its `output_ids`.
"""

from dataclasses import dataclass, field
from enum import Enum

from toolkit.checked import INT64_MAX, real_number, shown, truth, whole_number
from toolkit.errors import UserError


@dataclass(frozen=True)
class SamplingParams:
    """How one request's tokens are chosen, and when to stop.

    Attributes:
        max_tokens: number of new tokens at most.
        temperature: 0 takes the most likely token (greedy); higher is more random.
        top_k: sample among the k most likely tokens only; 0 means no such limit.
        top_p: sample among the fewest tokens whose probabilities sum to top_p; 1 means no such limit.
        seed: with the token's position it decides the random number, so a result depends on nothing else.
        stop: the request ends as soon as its text contains one of these; the text is cut before it. One string, or
            several.
        ignore_eos: go on after the end-of-sequence token; benchmarks need exactly max_tokens.

    Values are converted to Python's own and checked, so that a request which was taken cannot fail over them later.

    Raises:
        UserError: a value is of the wrong type, out of range or not finite.
    """

    max_tokens: int = 16
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        at_least_1 = "a request generates at least 1 token"
        checked = {
            "max_tokens": whole_number("max_tokens", self.max_tokens, 1, INT64_MAX, at_least_1),
            "temperature": real_number("temperature", self.temperature, "use 0 for greedy, or a positive number"),
            "top_k": whole_number(
                "top_k", self.top_k, 0, INT64_MAX, "use 0 for no limit, or a positive number of tokens"
            ),
            "top_p": real_number("top_p", self.top_p, "it is a probability above 0 and at most 1"),
            "seed": whole_number("seed", self.seed, 0, 2**64 - 1, "use 0 or a positive number below 2**64"),
            "stop": stop_strings(self.stop),
            "ignore_eos": truth("ignore_eos", self.ignore_eos),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the way to set a field of a frozen dataclass
        if self.temperature < 0:
            raise UserError(f"temperature is {self.temperature}; use 0 for greedy, or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p}; it is a probability above 0 and at most 1")


def stop_strings(stop: object) -> tuple[str, ...]:
    """The stop strings as a tuple: a list is copied, one string is one of them, and None is none.

    Raises:
        UserError: one of them is empty or no string.
    """
    if stop is None:
        return ()
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, list | tuple):
        raise UserError(f"stop is {shown(stop)}; use a string, or a list of strings")
    for string in strings:
        if not isinstance(string, str):
            raise UserError(f"stop holds {shown(string)}; a stop string is a string")
        if not string:
            raise UserError("an empty stop string would end every request at once; leave it out")
    return tuple(strings)


PLACEHOLDER = 0  # a valid token id: it may be looked up, but nothing may depend on it


class RequestStatus(Enum):
    WAITING = "waiting"  # in the scheduler's queue, owns no blocks
    RUNNING = "running"  # owns blocks
    FINISHED = "finished"  # owns no blocks, will never run again


class FinishReason(Enum):
    LENGTH = "length"  # max_tokens reached
    EOS = "eos"  # the model ended the sequence
    STOP = "stop"  # a stop string appeared
    CANCELLED = "cancelled"  # the caller took it back (chapter 8)
    ERROR = "error"  # it could not be served to its end


@dataclass(eq=False)  # compared by identity: two requests may well carry the same text
class Request:
    """One prompt on its way through the engine.

    Attributes:
        request_id: the caller's name for it.
        prompt_ids: the prompt's tokens, at least one.
        params: see SamplingParams.
        arrival: 0 for the first request the engine was given, 1 for the next, and so on.
        output_ids: the tokens generated so far.
        block_table: numbers of the blocks that hold its keys and values, in order of position.
        num_computed_tokens: tokens whose keys and values are in the cache, or will be once the launched steps are done.
        pending_samples: launched rows that will yield a token not committed yet. A synchronous engine always schedules
            with 0; the asynchronous chapters do not.
        epoch: advances whenever results that are still on their way must be dropped (finish, preemption).
    """

    request_id: str
    prompt_ids: list[int] = field(repr=False)  # what is long is left out where a request is printed
    params: SamplingParams = field(repr=False)
    arrival: int
    status: RequestStatus = RequestStatus.WAITING
    finish_reason: FinishReason | None = None
    output_ids: list[int] = field(default_factory=list, repr=False)
    block_table: list[int] = field(default_factory=list, repr=False)
    num_computed_tokens: int = 0
    pending_samples: int = 0
    epoch: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens known to the host: prompt and committed output."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def num_uncomputed_tokens(self) -> int:
        """Known tokens that no launched step has computed: the whole prompt at first, 1 in decode, 0 in flight."""
        return self.num_tokens - self.num_computed_tokens

    def token_ids(self, start: int, end: int) -> list[int]:
        """The tokens at positions start to end - 1, prompt and output taken as one sequence.

        A token that is still in flight has no value yet; PLACEHOLDER takes its place (chapter 7).
        """
        prompt_length = len(self.prompt_ids)
        output = self.output_ids[max(start - prompt_length, 0) : max(end - prompt_length, 0)]
        known = self.prompt_ids[start:end] + output
        return known + [PLACEHOLDER] * (end - start - len(known))


@dataclass(frozen=True)
class RequestOutput:
    """What one step brought one request.

    Attributes:
        request_id: as given by the caller.
        new_token_ids: the tokens of this step.
        finish_reason: None while the request runs. An output with a reason is its last, and each request gets one.
        output_ids, text: the complete result, on the last output only. `text` is "" without a tokenizer.
        error: what went wrong, with FinishReason.ERROR.
        new_text: the text that has become certain since the last output, for a caller who shows text as it comes. All
            of them together make `text`. Before chapter 8 it all comes with the last output.
    """

    request_id: str
    new_token_ids: tuple[int, ...]
    finish_reason: FinishReason | None = None
    output_ids: tuple[int, ...] = ()
    text: str = ""
    error: str = ""
    new_text: str = ""
