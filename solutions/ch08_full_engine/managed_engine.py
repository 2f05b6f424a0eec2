"""Requests that do not go their way: taken back, failed, or struck by an error of the whole step.

The rule is always that of chapter 2: what is in flight is never touched. The request's epoch advances, its blocks go
back at once, and commit drops its rows. The blocks may be handed out again while such a row still writes to them: all
writes are queued on the one compute stream, the old ones first.

When a step raises, the question is whether the device can still be used. After most errors (out of memory, a mistake
in host code) it can: everything in flight is forgotten, the running requests start anew from what the host knows, and
if it happens again at once, they fail. After a device assert or an illegal address CUDA refuses everything until the
process ends ("sticky" errors, CUDA Runtime API, "Error Handling"): then every request fails, once, and new ones are
refused with the advice to restart.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ch02_continuous_batching import Batch, FinishReason, Request, RequestOutput, RequestStatus, SamplingParams
from ch07_carry_over import AsyncEngine
from ch08_full_engine.culprit import CulpritSearch
from toolkit.checked import shown
from toolkit.device import accelerator
from toolkit.errors import UserError


@dataclass(frozen=True)
class StreamedOutput(RequestOutput):
    """What one step brought one request, for a caller who shows text as it comes.

    Attributes:
        new_text: the text that has become certain since the last output. All of them together make `text`.
    """

    new_text: str = ""


class ManagedEngine(AsyncEngine):
    """The asynchronous engine, for a service: requests can be cancelled, and an error is not the end.

    Attributes:
        search: who is at fault when steps raise.
        failures: steps that raised since the last one that was committed, in so far as those that run are to blame:
            while the culprit is searched among several, none.
        stopped: why the engine serves nobody any more; "" as long as it does.
    """

    max_failures = CulpritSearch.max_failures

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 (those of AsyncEngine)
        self.search = CulpritSearch()
        self.failures = 0
        self.stopped = ""
        super().__init__(*arguments, **options)

    def check_request(self, request_id: str, prompt_ids: Iterable[int], params: SamplingParams) -> list[int]:
        """As in chapter 2. Raises UserError also when the engine has stopped."""
        if self.stopped:
            raise UserError(f"request {request_id}: {self.stopped}")
        return super().check_request(request_id, prompt_ids, params)

    def cancel(self, request_id: str) -> bool:
        """Take a request back, wherever it is. Its terminal output comes with the next step.

        Returns:
            False if no request of that name is left: that is no mistake, it may have ended a moment ago.

        Raises:
            UserError: it is no name at all.
        """
        if not isinstance(request_id, str):
            raise UserError(f"cancel: a request's name is a string; this one is {shown(request_id)}")
        if request_id not in self.requests:
            return False
        self.end(self.requests[request_id], FinishReason.CANCELLED)
        return True

    def end(self, request: Request, reason: FinishReason, error: str = "") -> None:
        """End a waiting or running request at once, and leave its one terminal output (`last_output`) in `outputs`.

        A running one is finished as in chapter 2; a waiting one owns nothing, it leaves the queue and is FINISHED. No
        row of it that may be in flight brings a token any more.
        """
        # BEGIN SOLUTION 8.2
        if request.status is RequestStatus.RUNNING:
            self.scheduler.finish(request)
        else:
            self.scheduler.waiting.remove(request)
            request.status = RequestStatus.FINISHED
            request.epoch += 1
        request.finish_reason = reason
        self.outputs.append(self.last_output(request, (), error))
        # END SOLUTION

    def fail(self, request: Request, error: str) -> None:
        self.end(request, FinishReason.ERROR, error)

    def last_output(self, request: Request, new_token_ids: tuple[int, ...], error: str = "") -> StreamedOutput:
        """The terminal output of a request that has its `finish_reason`; from now on its name is free.

        Raises RuntimeError where the request has none yet, or has had its terminal output.
        """
        if request.finish_reason is None:
            raise RuntimeError(
                f"request {request.request_id} has no finish_reason yet, so this cannot be its last output"
            )
        if self.requests.pop(request.request_id, None) is not request:
            raise RuntimeError(f"request {request.request_id} has had its last output already")
        ids = tuple(request.output_ids)
        return StreamedOutput(request.request_id, new_token_ids, request.finish_reason, ids, error=error)

    def _output(self, request: Request, *new_token_ids: int, error: str = "") -> RequestOutput:
        return self.make_output(request, *new_token_ids)

    def make_output(self, request: Request, token_id: int) -> RequestOutput:
        """What a committed token brings its request."""
        if request.finish_reason is None:
            return StreamedOutput(request.request_id, (token_id,))
        return self.last_output(request, (token_id,))

    @property
    def has_work(self) -> bool:
        return bool(self.outputs) or (not self.stopped and super().has_work)

    def advance(self) -> list[RequestOutput]:
        """As in chapter 5. Also returned are the terminal outputs of what was cancelled or has failed."""
        if self.stopped:
            return []
        try:
            with self.search.only_the_group(self.scheduler):
                return super().advance()
        except Exception as error:  # whatever it is: no request may be lost over it
            self.undo.apply(self)
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

    def commit(self, batch: Batch, slot: Any) -> list[RequestOutput]:  # noqa: ANN401 (see chapter 3)
        outputs = super().commit(batch, slot)
        self.failures = 0
        self.search.committed(batch)
        return outputs

    def device_is_usable(self) -> bool:
        """Wait for everything that is queued. After a sticky error that raises, as every call does from then on."""
        try:
            accelerator.synchronize()
        except RuntimeError:
            return False
        return True

    def recover(self, error: Exception) -> None:
        """A step has raised `error`. Forget what is in flight, and decide who goes on.

        - The device is usable: the running requests are preempted and start anew. But when steps have failed
          `max_failures` times without one that was committed, they end with FinishReason.ERROR. Those that were waiting
          stay, unless nobody was running: then it is the first of them that cannot be let in, and it ends so.
        - It is not: `stopped` is set, and all requests end with FinishReason.ERROR.
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
            self.end(request, FinishReason.ERROR, message)
        # END SOLUTION
