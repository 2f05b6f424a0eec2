"""How the tests of the full engine make it and run it, and what holds for every run: `Watch`."""

from collections.abc import Callable
from typing import Any

import pytest

from ch02_continuous_batching import Batch, FinishReason, Request, RequestOutput, RequestStatus, SamplingParams
from ch08_full_engine import FullEngine, ServiceBook
from ch08_full_engine.build import build
from tests.helpers import swapped, tiny_model
from tests.simulated import MAX_TOKENS, PROMPTS, STEP_LIMIT
from tests.words import work_left
from toolkit.commands.ledger import Ledger, leftovers

NUM_BLOCKS = 80


def full_engine(engine_class: type[FullEngine] = FullEngine, **parts: Any) -> Callable[..., FullEngine]:
    """A FullEngine that is made of other parts, each by the name that chapter 8's build.py gives it; see `swapped`."""

    def make(*arguments: Any, **options: Any) -> FullEngine:
        return engine_class(*arguments, build=swapped(build, **parts), **options)

    return make


class CheckedBook(ServiceBook):
    """Looks at what the learner's functions hand on, so that a mistake is named where it is made.

    pytest.fail is no Exception: the engine, which gets over errors, does not get over it.
    """

    def end(self, request: Request, reason: FinishReason, error: str = "") -> None:
        name = request.request_id
        if request.status is RequestStatus.FINISHED:
            pytest.fail(
                f"`end` was called for request {name!r}, which has ended already"
                + (
                    ": its name is still in `requests`, so its last output was not made by `last_output`"
                    if self.requests.get(name) is request
                    else ""
                )
            )
        super().end(request, reason, error)

    def commit(self, batch: Batch, token_ids: list[int]) -> list[RequestOutput]:
        for row in batch.rows:
            request = row.request
            if request.status is RequestStatus.FINISHED and row.epoch == request.epoch:
                pytest.fail(
                    f"request {request.request_id!r} has ended, and its row in batch {batch.step}, which was in flight "
                    f"then, has the request's epoch, {row.epoch}, all the same, so commit takes it for alive"
                )
        return super().commit(batch, token_ids)


CHECKED = {"ServiceBook": CheckedBook}  # not where these tests are asked of chapter 9's engine


def engine_on(policy: str = "eager", tokenizer: Any = None, model: Any = None, **options: Any) -> FullEngine:
    """A new engine with roomy limits on a fresh simulated GPU; a race raises. `model`: instead of a tiny one."""
    from toolkit import simgpu

    simgpu.reset(policy)
    limits = {"num_blocks": NUM_BLOCKS, "block_size": 4, "max_rows": 6, "token_budget": 32} | options
    return full_engine(**CHECKED)(model or tiny_model(), tokenizer, **limits)


def params(**values: Any) -> SamplingParams:
    return SamplingParams(**({"max_tokens": MAX_TOKENS} | values))


class Watch:
    """Collects what an engine returns, with a ledger of it. A name stands for one request only.

    Attributes:
        tokens: the tokens of each request, as they were streamed.
        ended: the terminal output of each request.
    """

    def __init__(self, engine: FullEngine) -> None:
        self.engine = engine
        self.ledger = Ledger()
        self.tokens: dict[str, list[int]] = {}
        self.ended: dict[str, Any] = {}

    def add_prompts(self, count: int = len(PROMPTS), **values: Any) -> "Watch":
        for i in range(count):
            self.add(str(i), PROMPTS[i], **values)
        return self

    def add(self, name: str, prompt: list[int], **values: Any) -> None:
        self.engine.add_request(name, prompt, params(**values))
        self.tokens[name] = self.ledger.add(name).tokens

    def step(self) -> list[RequestOutput]:
        outputs = self.engine.step()
        for output in outputs:
            self.take(output)
        return outputs

    def take(self, output: Any) -> None:
        assert isinstance(output, RequestOutput), (
            f"a step returned a {type(output).__name__} among its outputs, not a RequestOutput; `last_output` makes "
            "the last one"
        )
        self.ledger.take([output])
        if output.finish_reason is not None:
            self.ended[output.request_id] = output

    def run(self, steps: int | None = None) -> "Watch":
        """So many steps, or until there is no work; then everything must have been given back."""
        for _ in range(STEP_LIMIT if steps is None else steps):
            if not self.engine.has_work:
                break
            self.step()
        if steps is None:
            self.check_idle()
        return self

    def check_idle(self) -> None:
        book = self.engine.book
        assert not self.engine.has_work, f"after {STEP_LIMIT} steps there is still work: {work_left(self.engine)}"
        missing = sorted(self.ledger.open)
        assert not missing, f"the engine is idle, but the requests {missing} got no terminal output"
        remembered = sorted({*book.requests, *(request.request_id for request in book.texts.streams)})
        assert not remembered, (
            f"the engine is idle, but remembers the requests {remembered}: each terminal output is made by "
            "`last_output`, which forgets its request, so that the name is free"
        )
        left = leftovers(self.engine)  # not the names of blocks: a test may keep a request alive
        assert not left, "the engine is idle, and yet: " + "; ".join(left)

    def assert_tokens(self, right: list[list[int]], *, besides: tuple[str, ...] = ()) -> None:
        """All requests named by a number got the tokens of that place in `right`, those of `besides` left out."""
        for name, tokens in self.tokens.items():
            if name not in besides:
                error = getattr(self.ended.get(name), "error", "")
                assert tokens == right[int(name)], (
                    f"request {name} got {tokens}, and generate gives {right[int(name)]}"
                    + f"; it ended with the error: {error[:90]}" * bool(error)
                )
