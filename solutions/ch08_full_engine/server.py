"""An engine for callers in other threads and in coroutines, as many at a time as it has places for.

The engine runs in a thread of its own (engine_thread). A caller waits at the gate for a place, leaves the request
there, and gets the outputs through a callback; an async generator is one such callback.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from threading import current_thread

from ch02_continuous_batching import RequestOutput, SamplingParams
from ch08_full_engine.admission_gate import AdmissionGate
from ch08_full_engine.engine_thread import Callback, EngineThread
from ch08_full_engine.full_engine import FullEngine
from toolkit.checked import INT32_MAX, real_number, shown, whole_number
from toolkit.errors import UserError


class Server:
    """Serves requests from any thread and any event loop until it is closed; a context manager.

    Args:
        engine: from now on, only the server may call it.
        max_requests: so many are served or wait inside at a time; further callers wait outside (see `gate`).
        on_delivery: called in the engine's thread when callbacks were called, once for all outputs of a step. It must
            be quick, and must not raise.
    """

    def __init__(
        self, engine: FullEngine, max_requests: int = 64, on_delivery: Callable[[], object] = lambda: None
    ) -> None:
        places = whole_number("max_requests", max_requests, 1, INT32_MAX, "a server serves at least 1")
        self.engine = engine
        self.gate = AdmissionGate(places)
        self.names = itertools.count()
        self.thread = EngineThread(engine, self.gate.leave, on_delivery)
        self.thread.start()

    def submit(
        self, prompt_ids: Iterable[int], params: SamplingParams, on_output: Callback, timeout: float | None = None
    ) -> str:
        """Hand in a request, from a thread. Blocks while `max_requests` are inside.

        Args:
            prompt_ids: copied before anything else happens.
            on_output: called with each output of the request, in the engine's thread: it must be quick, and must not
                submit anything itself (it might wait for a place that only its own thread can free). The last output
                has a finish_reason. If it raises, whatever it is, the request is cancelled, and no other one notices.
            timeout: seconds to wait for a place.

        Returns:
            the request's name, for `cancel`.

        Raises:
            UserError: the request can never be served, or the server is closed.
            TimeoutError: there was no place in time.
        """
        if not callable(on_output):
            raise UserError(f"on_output is {shown(on_output)}; it is a function that takes an output")
        if timeout is not None:
            timeout = max(real_number("timeout", timeout, "it is a number of seconds, or None"), 0.0)
        if current_thread() is self.thread:
            raise UserError("submit was called in a callback, where it could wait forever; call it in another thread")
        name = str(next(self.names))
        prompt = self.engine.check_request(name, prompt_ids, params)
        ticket = self.gate.enter()
        try:
            ticket.result(timeout)
        except BaseException as error:  # no place in time, or the program is interrupted
            self._turn_back(ticket)
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no place within {timeout} s: {self.gate.size} requests are being served") from None
            raise
        self._start(name, prompt, params, on_output)
        return name

    def stream(self, prompt_ids: Iterable[int], params: SamplingParams) -> AsyncIterator[RequestOutput]:
        """The outputs of a request as they come, an async generator; the last one has a finish_reason.

        The prompt is copied before this returns. The generator waits while `max_requests` are inside. Who stops
        listening (leaves the loop, is cancelled) takes the request back. Raises UserError as `submit` does.
        """
        name = str(next(self.names))
        return self._stream(name, self.engine.check_request(name, prompt_ids, params), params)

    async def _stream(self, name: str, prompt: list[int], params: SamplingParams) -> AsyncIterator[RequestOutput]:
        loop = asyncio.get_running_loop()
        outputs: asyncio.Queue[RequestOutput] = asyncio.Queue()
        ticket = self.gate.enter()
        try:
            await asyncio.wrap_future(ticket)
        except BaseException:  # cancelled, or closed before it began
            self._turn_back(ticket)
            raise

        def hand_over(output: RequestOutput) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(outputs.put_nowait, output)
            elif output.finish_reason is None:
                self.cancel(name)  # the listener is gone

        self._start(name, prompt, params, hand_over)
        try:
            while True:
                output = await outputs.get()
                yield output
                if output.finish_reason is not None:
                    return
        finally:
            self.cancel(name)  # changes nothing if it has ended

    def cancel(self, name: str) -> None:
        """Take a request back; its last output says so. Nothing happens if it has ended already.

        Raises UserError if `name` is no string.
        """
        if not isinstance(name, str):
            raise UserError(f"cancel: a request's name is a string; this one is {shown(name)}")
        self.thread.cancel(name)

    def forget_prefixes(self) -> None:
        """Call this after the weights were changed in place; see `FullEngine.forget_prefixes`. Between two steps."""
        self.thread.commands.put(self.engine.forget_prefixes)

    def close(self) -> None:
        """Take no more requests, serve those that are inside to their ends, and end the thread."""
        self.thread.close()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _turn_back(self, ticket: "Future[None]") -> None:
        """The caller who waited for this ticket does not come in."""
        if not ticket.cancel():  # it was let in at the last moment
            self.gate.leave()

    def _start(self, name: str, prompt: list[int], params: SamplingParams, on_output: Callback) -> None:
        """Hand a request to the engine's thread; the caller is inside the gate, and is out again if it fails."""
        try:
            self.thread.add(name, prompt, params, on_output)
        except BaseException:  # a place must not be lost over it
            self.gate.leave()
            raise
