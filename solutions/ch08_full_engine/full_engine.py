"""The full engine: everything of the course in one class, and an error is not the end of it.

The loop has three phases. *Cold start*: the first batch is launched, and there is nothing to commit. *Steady state*:
launch N + 1, commit N. *Drain*: there is nothing left to launch, the last batch is committed. All three are the one
`advance` of chapter 5, and it starts with an empty queue as well as with a full one.

When a step raises, the question is whether the device can still be used. After most errors (out of memory, a mistake
in host code) it can: everything in flight is forgotten, the running requests start over from what the host knows, and
if it happens again at once, they fail. After a device assert or an illegal address CUDA refuses everything until the
process ends ("sticky" errors, CUDA Runtime API, "Error Handling"): then every request fails, once, and new ones are
refused with the advice to restart.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch05_double_buffering import PipelinedEngine
from ch08_full_engine.build import FullParts, build
from ch08_full_engine.culprit import CulpritSearch
from ch08_full_engine.service_book import ServiceBook
from toolkit.checked import truth
from toolkit.device import accelerator
from toolkit.errors import UserError
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


class FullEngine(PipelinedEngine):
    """Continuous batching, asynchronous, with all that a service needs of an engine.

    Args:
        asynchronous: as in chapter 7.
        prefix_sharing: whether requests share the blocks of a common beginning.
        compiled: run the model's layers through torch.compile, in place; GPU only. Takes some seconds once.
        build: puts the parts together; chapter 9 has other ones.
        The others are those of chapter 2.

    Attributes:
        metrics: see Metrics.
        search: who is at fault when steps raise.
        failures: steps that raised since the last one that brought something, in so far as those that run are to
            blame: while the culprit is searched among several, none.
        stopped: why the engine serves no requests any more; "" as long as it does.
    """

    book: ServiceBook
    max_failures = CulpritSearch.max_failures

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        timeline: Timeline | NoTimeline = NO_TIMELINE,
        *,
        asynchronous: bool = True,
        prefix_sharing: bool = True,
        compiled: bool = False,
        build: Callable[..., FullParts] = build,
        **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
    ) -> None:
        max_in_flight = 2 if truth("asynchronous", asynchronous) else 1
        parts = build(model, tokenizer, timeline, prefix_sharing=prefix_sharing, compiled=compiled, **limits)
        super().__init__(parts, max_in_flight)
        self.metrics, self.search = parts.metrics, parts.search
        self.failures = 0
        self.stopped = ""

    def check_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> list[int]:
        """As in chapter 2. Raises UserError also when the engine has stopped."""
        if self.stopped:
            raise UserError(f"request {request_id}: {self.stopped}")
        return super().check_request(request_id, prompt_ids, params)

    def cancel(self, request_id: str) -> bool:
        """Take a request back, wherever it is; see `ServiceBook.cancel`."""
        self.settle()
        return self.book.cancel(request_id)

    def forget_prefixes(self) -> None:
        """Call this after the weights were changed in place: no later request shares what the old ones computed.

        Between two steps, and before the next request is added. Requests that run go on with the keys and values they
        have, so their answers are of both models; let the engine become idle first if that matters.
        """
        self.scheduler.blocks.forget()

    @property
    def has_work(self) -> bool:
        return bool(self.book.outputs) or self.torn or (not self.stopped and super().has_work)

    def advance(self) -> Sequence[RequestOutput]:
        """As in chapter 5, and whatever is raised in it is got over."""
        if self.stopped:
            return []
        try:
            with self.search.only_the_group(self.scheduler):
                outputs = super().advance()
            if outputs:
                self.failures = 0
            return outputs
        except Exception as error:  # whatever it is: no request may be lost over it
            self.take_back()
            with self.search.only_the_group(self.scheduler):  # once more, since all have restarted
                self.blame(error)
                self.recover(error)
            return []

    def blame(self, error: Exception) -> None:
        """Find out who is at fault, and see to it that `recover` ends this one and no other.

        Involved are those that run and, since it may have been let in just now, the first of those that wait.
        """
        culprit = self.search.step_failed([*self.scheduler.running, *list(self.scheduler.waiting)[:1]])
        self.failures = 0 if culprit is None else self.max_failures - 1
        if culprit is not None:
            name = culprit.request_id
            logging.getLogger(__name__).error("request %s fails by itself, and ends", name, exc_info=error)

    def take_back(self) -> None:
        """As in chapter 2. If it was this step that stopped the engine, that is taken back with the requests' ends."""
        super().take_back()
        if self.book.requests:
            self.stopped = ""

    def device_is_usable(self) -> bool:
        """Wait for everything that is queued. After a sticky error that raises, as every call does from then on."""
        try:
            accelerator.synchronize()
        except RuntimeError:
            return False
        return True

    def recover(self, error: Exception) -> None:
        """A step has raised `error`. Forget what is in flight, and decide who goes on.

        - The device is usable: the running requests are preempted and start over. But when steps have failed
          `max_failures` times without one that brought something, they end with FinishReason.ERROR (`self.book.end`).
          Those that were waiting stay, unless none was running: then it is the first of them that cannot be let in, and
          it ends so.
        - It is not: `stopped` is set, and all requests end with FinishReason.ERROR. `stopped` is one line, with which
          new requests are refused: what has failed, and the advice to restart the process.
        """
        message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        # BEGIN SOLUTION 8.4
        usable = self.device_is_usable()
        running, waiting = list(self.scheduler.running), list(self.scheduler.waiting)
        self.in_flight.clear()
        self.failures += 1
        for request in running:
            self.scheduler.preempt(request)
        if not usable:
            self.stopped = f"the device has failed ({message}); restart the process"
            failed = running + waiting
        else:
            failed = (running or waiting[:1]) if self.failures >= self.max_failures else []
        for request in failed:
            self.book.end(request, FinishReason.ERROR, message)
        # END SOLUTION
