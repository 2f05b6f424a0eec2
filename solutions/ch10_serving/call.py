"""One HTTP call and its requests to the engine: one for each choice of each prompt.

A call lives in the event loop. It takes the places for all of its requests at once, collects their outputs, which the
mailbox hands out, and gives each place back when its request has ended. `cancel` ends a call in any state, and what
has made a call ends it in a `finally`: the engine knows nothing of connections, and would go on for a client that has
gone.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

from ch02_continuous_batching import RequestOutput, SamplingParams
from ch08_full_engine import Server
from ch10_serving.admission import Admission
from ch10_serving.api_errors import ApiError
from ch10_serving.mailbox import Mailbox
from ch10_serving.metrics import HttpMetrics
from toolkit.errors import UserError


class Call:
    """A Listener for the requests of one HTTP call.

    Args:
        size: how many requests it will start; the places are taken here. Raises ApiError where there are not so many.
        streamed: all outputs are wanted as they come; otherwise, of each choice, only the first and the last.

    Attributes:
        running: the engine's name for each choice that has not ended.
        since: when it came. first: when the first output of each choice came. By admission's clock.
    """

    def __init__(
        self,
        server: Server,
        mailbox: Mailbox,
        admission: Admission,
        metrics: HttpMetrics,
        size: int,
        streamed: bool,
    ) -> None:
        self.server, self.mailbox, self.admission, self.metrics = server, mailbox, admission, metrics
        self.since = admission.enter(size)
        self.streamed = streamed
        self.not_started = size
        self.running: dict[int, str] = {}
        self.first: dict[int, float] = {}
        self.outputs: list[tuple[int, RequestOutput]] = []
        self.waiter: asyncio.Future[None] | None = None
        self.resting = False

    def start(self, requests: Sequence[tuple[list[int], SamplingParams]]) -> None:
        """Hand the requests to the engine; the numbers of the choices are their places in the list.

        Raises ApiError if the engine can never serve one of them, or none any more.
        """
        for choice, (prompt, params) in enumerate(requests):
            try:
                name = self.server.submit(prompt, params, partial(self.put, choice), timeout=0)
            except UserError as error:
                closed = self.server.engine.stopped or self.server.thread.closed
                raise ApiError(503 if closed else 400, str(error).partition(": ")[2] or str(error)) from None
            self.not_started -= 1
            self.running[choice] = name

    def put(self, choice: int, output: RequestOutput) -> None:
        """In the engine's thread: what is wanted goes into the mailbox, and the event loop never hears of the rest."""
        if self.streamed or output.finish_reason is not None or choice not in self.first:
            self.mailbox.put(self, choice, output)

    def take(self, choice: int, output: RequestOutput) -> None:
        """See Listener."""
        now = self.admission.clock()
        first = self.first.setdefault(choice, now)
        self.outputs.append((choice, output))
        if output.finish_reason is not None:
            del self.running[choice]
            self.admission.leave(self.since)
            self.metrics.ended(self.since, first, now, len(output.output_ids))
        if not self.resting or not self.running:
            self._wake()

    async def more(self, rest: float = 0.0) -> list[tuple[int, RequestOutput]]:
        """The outputs that have come, with their choices: at least one, as long as the call has not ended.

        Args:
            rest: seconds in which more are gathered first, unless the call ends.
        """
        if rest > 0 and self.running:
            self.resting = True
            timer = self.mailbox.loop.call_later(rest, self._wake)
            try:
                await self._sleep()
            finally:
                self.resting = False
                timer.cancel()
        if not self.outputs and self.running:
            await self._sleep()
        taken, self.outputs = self.outputs, []
        return taken

    def cancel(self) -> None:
        """Take back what has not ended. Nothing happens if all has."""
        self.admission.give_back(self.not_started)
        self.not_started = 0
        for name in self.running.values():
            self.server.cancel(name)

    async def _sleep(self) -> None:
        self.waiter = self.mailbox.loop.create_future()
        await self.waiter

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
