"""Runs of the full engine in which everything that happens is scripted by step, with the books kept beside them."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from ch02_continuous_batching import RequestStatus, SamplingParams
from ch08_full_engine import FullEngine
from tests.helpers import VOCABULARY, reference_outputs, shared_reference, tiny_model, tiny_tokenizer
from toolkit.commands.ledger import Ledger
from toolkit.device import DEVICE, is_simulated

MAX_TOKENS = 6
STEP_LIMIT = 200
LIMITS = {"num_blocks": 40, "block_size": 4, "max_rows": 4, "token_budget": 12, "max_length": 48}
_COMMON = [11, 45, 7, 62, 33, 90, 18, 51, 29]  # two full blocks of 4, and one token more
PROMPTS = [
    [*_COMMON, 5, 71],
    [84, 13, 40],
    [*_COMMON[:8]],  # ends with its block
    [*_COMMON, 66, 23, 9, 74, 12, 38, 57],
    [27, 3, 95, 61, 48, 80],
]
ARRIVALS = {0: [0, 1], 2: [2], 3: [3], 6: [4]}  # step -> the prompts that come before it


@cache
def expected() -> list[list[int]]:
    """What the library's own `generate` gives for PROMPTS."""
    return reference_outputs(shared_reference(), PROMPTS, MAX_TOKENS)


@cache
def model() -> Any:
    return tiny_model() if is_simulated() else tiny_model().to(DEVICE)


def text_of(tokens: Sequence[int]) -> str:
    return "".join(chr(32 + token) for token in tokens)


def new_engine(gpu_policy: str = "eager", engine_class: Callable[..., Any] = FullEngine, **options: Any) -> Any:
    """An engine for these runs, on a GPU or on a fresh simulated one, where a race raises."""
    if is_simulated():
        from toolkit import simgpu

        simgpu.reset(gpu_policy, on_race="raise")
    engine = engine_class(model(), tiny_tokenizer(), **(LIMITS | options))
    recover = engine.recover

    def only_what_was_planted(error: Exception) -> None:
        if "planted by the test" not in str(error):
            raise error  # a mistake of the engine's own, which it would get over
        recover(error)

    engine.recover = only_what_was_planted
    return engine


class Scripted:
    """An engine and its books. Names are the numbers of the prompts unless a test chooses others.

    Args:
        eos, stop: the token, or the string, that ends a sequence.
        engine: one that is idle; None for a new one, made with the other arguments.
    """

    def __init__(
        self,
        gpu_policy: str = "eager",
        engine_class: Callable[..., Any] = FullEngine,
        eos: int | None = None,
        stop: str = "",
        engine: Any = None,
        **options: Any,
    ) -> None:
        self.eos, self.stop = eos, stop
        self.ledger = Ledger()
        self.engine = engine or new_engine(gpu_policy, engine_class, **options)
        self.engine.book.eos_ids = set() if eos is None else {eos}
        self.params = SamplingParams(max_tokens=MAX_TOKENS, stop=(stop,) if stop else ())

    def right(self, prompt: int) -> list[int]:
        """All the tokens that this prompt gets, cut at the end-of-sequence token or the stop string."""
        tokens = expected()[prompt]
        for end in range(1, len(tokens) + 1):
            text = text_of(t for t in tokens[:end] if t != VOCABULARY - 1)  # that one is special, it has no text
            if tokens[end - 1] == self.eos or (self.stop and self.stop in text):
                return tokens[:end]
        return tokens

    def add(self, prompt: int, name: str | None = None) -> None:
        self.engine.add_request(name or str(prompt), PROMPTS[prompt], self.params)
        self.ledger.add(name or str(prompt), self.right(prompt))

    def running(self) -> list[Any]:
        return [request for request in self.engine.scheduler.running if request.status is RequestStatus.RUNNING]

    def run(self, at: int | None = None, event: "Event | None" = None, arrivals: Any = ARRIVALS) -> int:
        """Step to the end, `event` before step `at`; then the integrity of the engine. Returns the number of steps."""
        step = 0
        while self.engine.has_work or any(when >= step for when in arrivals) or (at is not None and at >= step):
            for prompt in arrivals.get(step, ()):
                self.add(prompt)
            if step == at and event is not None:
                event(self)
            self.ledger.take(self.engine.step())
            step += 1
            assert step < STEP_LIMIT, f"after {STEP_LIMIT} steps there is still work"
        self.ledger.check_idle(self.engine)
        return step


Event = Callable[[Scripted], None]
