"""An engine in a thread of its own: the only thread that touches it.

Other threads leave commands (add, cancel) in a queue; the thread takes them between two steps, and sleeps on that queue
when there is nothing to do, so a server that starts with no request at all costs nothing. Outputs go out through a
callback for each request. What a callback raises, be it SystemExit, is a matter of its own request and of no other.
"""

import atexit
import logging
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Lock, Thread, current_thread

from ch02_continuous_batching import FinishReason, RequestOutput, SamplingParams
from ch08_full_engine.full_engine import FullEngine
from toolkit.errors import UserError
from toolkit.garbage import short_collections

Callback = Callable[[RequestOutput], object]
PATIENCE = 10.0  # seconds that the end of the process waits for the thread
log = logging.getLogger(__name__)


class EngineThread(Thread):
    """Runs an engine for others until it is closed.

    Args:
        engine: from now on, only this thread may call it.
        on_end: called once for each request that was added, right before its last output is delivered.
        on_delivery: called when outputs were delivered, once for all that a step has brought.

    Attributes:
        callbacks: by request, until its last output.
    """

    def __init__(
        self, engine: FullEngine, on_end: Callable[[], object], on_delivery: Callable[[], object] = lambda: None
    ) -> None:
        super().__init__(name="engine", daemon=True)
        self.engine = engine
        self.on_end, self.on_delivery = on_end, on_delivery
        self.callbacks: dict[str, Callback] = {}
        self.commands: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.lock = Lock()
        self.closed = False
        self.given_up = False  # the process ends: those that are inside are not served any more
        # A thread that is in the middle of torch's code when Python ends aborts the process.
        atexit.register(self.give_up)

    # --- for callers in other threads ---

    def add(self, name: str, prompt: list[int], params: SamplingParams, on_output: Callback) -> None:
        """Leave the command that adds a checked request. Raises UserError if the thread takes none any more."""
        with self.lock:
            if self.closed:
                raise UserError("the server is closed")
            self.callbacks[name] = on_output
            self.commands.put(lambda: self._add(name, prompt, params))

    def cancel(self, name: str) -> None:
        """Take a request back; nothing happens if it has ended already."""
        self.commands.put(lambda: self.engine.cancel(name))

    def close(self) -> None:
        """Take no more requests, serve those that are inside to their ends, and end."""
        with self.lock:
            self.closed = True
        self.commands.put(lambda: None)
        if current_thread() is not self:  # in a callback there is nothing to wait for
            self.join()
        atexit.unregister(self.give_up)

    def give_up(self) -> None:
        """The process ends, and this was not closed: end after the step that runs."""
        self.given_up = self.closed = True
        self.commands.put(lambda: None)
        self.join(PATIENCE)

    # --- in this thread ---

    def run(self) -> None:
        reason = "the process ends"
        try:
            with short_collections():
                self._serve()
        except BaseException as error:  # the engine gets over what it can; callers who wait for it must be told
            reason = f"the engine has ended: {str(error) or type(error).__name__}"
            raise
        finally:
            with self.lock:
                self.closed = True
            for name in list(self.callbacks):
                with suppress(BaseException):  # whatever it is, the others must be told as well
                    self._deliver(RequestOutput(name, (), FinishReason.ERROR, error=reason))
            self.on_delivery()

    def _serve(self) -> None:
        while not self.given_up:
            while not (self.commands.empty() and (self.engine.has_work or self.closed)):
                self.commands.get()()
            if not self.engine.has_work:
                return
            for output in self.engine.step():
                self._deliver(output)
            self.on_delivery()

    def _add(self, name: str, prompt: list[int], params: SamplingParams) -> None:
        try:
            self.engine.add_request(name, prompt, params)
        except Exception as error:  # it has stopped meanwhile, or its tokenizer is good for nothing: one fails alone
            self._deliver(RequestOutput(name, (), FinishReason.ERROR, error=str(error)))
            self.on_delivery()

    def _deliver(self, output: RequestOutput) -> None:
        name, is_last = output.request_id, output.finish_reason is not None
        callback = self.callbacks[name]
        try:
            if is_last:
                del self.callbacks[name]
                self.on_end()
        finally:
            self._call(callback, output)

    def _call(self, callback: Callback, output: RequestOutput) -> None:
        name, is_last = output.request_id, output.finish_reason is not None
        try:
            callback(output)
        except BaseException:
            log.exception("request %s: its callback failed%s", name, "" if is_last else "; it is cancelled")
            if not is_last:
                self.callbacks[name] = lambda output: None
                self.engine.cancel(name)
