"""An engine in a thread of its own, for callers in other threads and in coroutines.

The engine is touched by its own thread only. Callers leave commands (add, cancel) in a queue; the thread takes them
between two steps, and sleeps on that queue when there is nothing to do, so a server that starts with no request at all
costs nothing. Outputs go out through a callback for each request, and an async generator is one such callback.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch08_full_engine.full_engine import FullEngine
from ch08_full_engine.gate import Gate
from ch08_full_engine.managed_engine import StreamedOutput
from toolkit.errors import UserError
from toolkit.garbage import short_collections

Callback = Callable[[RequestOutput], object]


class Server:
    """Serves requests from any thread and any event loop until it is closed; a context manager.

    Args:
        engine: from now on, only the server may call it.
        max_requests: so many are served or wait inside at a time; further callers wait outside (see `gate`).
    """

    def __init__(self, engine: FullEngine, max_requests: int = 64) -> None:
        if max_requests < 1:
            raise UserError(f"max_requests is {max_requests}; a server serves at least 1")
        self.engine = engine
        self.gate = Gate(max_requests)
        self.callbacks: dict[str, Callback] = {}
        self.names = itertools.count()
        self.lock = Lock()
        self.closed = False
        self.commands: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.thread = Thread(target=self._run, name="engine", daemon=True)
        self.thread.start()

    def submit(
        self, prompt_ids: Sequence[int], params: SamplingParams, on_output: Callback, timeout: float | None = None
    ) -> str:
        """Hand in a request, from a thread. Blocks while `max_requests` are inside.

        Args:
            on_output: called with each output of the request, in the engine's thread: it must be quick, and must not
                submit anything itself (it might wait for a place that only its own thread can free). The last output
                has a finish_reason. If it raises, the request is cancelled, and nobody else notices.
            timeout: seconds to wait for a place.

        Returns:
            the request's name, for `cancel`.

        Raises:
            UserError: the request can never be served, or the server is closed.
            TimeoutError: there was no place in time.
        """
        ticket = self.gate.enter()
        try:
            ticket.result(timeout)
        except BaseException as error:  # no place in time, or the program is interrupted
            if not ticket.cancel():  # it was let in at the last moment
                self.gate.leave()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no place within {timeout} s: {self.gate.size} requests are being served") from None
            raise
        return self._start(prompt_ids, params, on_output)

    async def stream(self, prompt_ids: Sequence[int], params: SamplingParams) -> AsyncIterator[RequestOutput]:
        """The outputs of a request as they come; the last one has a finish_reason.

        Waits while `max_requests` are inside. Who stops listening (leaves the loop, is cancelled) takes the request
        back. Raises UserError as `submit` does.
        """
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[RequestOutput] = asyncio.Queue()
        ticket = self.gate.enter()
        try:
            await asyncio.wrap_future(ticket)
        except asyncio.CancelledError:
            if not ticket.cancel():  # it was let in at the last moment
                self.gate.leave()
            raise

        def hand_over(output: RequestOutput) -> None:
            if not loop.is_closed():  # else nobody listens any more
                loop.call_soon_threadsafe(outputs.put_nowait, output)

        name = self._start(prompt_ids, params, hand_over)
        try:
            while True:
                output = await outputs.get()
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            self.cancel(name)  # changes nothing if it has ended

    def cancel(self, name: str) -> None:
        """Take a request back; its last output says so. Nothing happens if it has ended already."""
        self.commands.put(lambda: self.engine.cancel(name))

    def close(self) -> None:
        """Take no more requests, serve those that are inside to their ends, and end the thread."""
        with self.lock:
            self.closed = True
        self.commands.put(lambda: None)
        self.thread.join()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self, prompt_ids: Sequence[int], params: SamplingParams, on_output: Callback) -> str:
        """Leave the command that adds a request; whoever calls is inside the gate, and is out again if it fails."""
        name = str(next(self.names))
        try:
            self.engine.check_request(name, prompt_ids, params)  # changes nothing, so it may run in this thread
            with self.lock:
                if self.closed:
                    raise UserError("the server is closed")
                self.callbacks[name] = on_output
                self.commands.put(lambda: self._add(name, list(prompt_ids), params))
        except BaseException:  # also a prompt that is none: a place must not be lost over it
            self.gate.leave()
            raise
        return name

    # --- in the engine's thread ---

    def _run(self) -> None:
        try:
            with short_collections():
                self._serve()
        except BaseException as error:  # the engine gets over what it can; now nobody may wait for it in vain
            with self.lock:
                self.closed = True
            for name in list(self.callbacks):
                self._deliver(StreamedOutput(name, (), FinishReason.ERROR, error=f"the engine has ended: {error}"))
            raise

    def _serve(self) -> None:
        while True:
            while not (self.commands.empty() and (self.engine.has_work or self.closed)):
                self.commands.get()()
            if not self.engine.has_work:
                return
            for output in self.engine.step():
                self._deliver(output)

    def _add(self, name: str, prompt_ids: list[int], params: SamplingParams) -> None:
        try:
            self.engine.add_request(name, prompt_ids, params)
        except Exception as error:  # it has stopped meanwhile, or its tokenizer is good for nothing: one fails alone
            self._deliver(StreamedOutput(name, (), FinishReason.ERROR, error=str(error)))

    def _deliver(self, output: RequestOutput) -> None:
        callback = self.callbacks[output.request_id]
        if output.finish_reason is not None:
            del self.callbacks[output.request_id]
            self.gate.leave()
        try:
            callback(output)
        except Exception:
            logging.getLogger(__name__).exception("request %s: its callback failed; it is cancelled", output.request_id)
            if output.finish_reason is None:
                self.callbacks[output.request_id] = lambda output: None
                self.engine.cancel(output.request_id)
