"""A gate that lets so many in and no more: the bounded queue in front of the engine.

A queue without a bound only hides that an engine is too slow: every request waits longer, and memory fills. With a
bound, callers who come too fast have to wait *outside*; that is called back-pressure.

The gate is used from several threads and from coroutines, so who waits gets a `concurrent.futures.Future`: a thread
calls its `result`, a coroutine awaits it through `asyncio.wrap_future`.
"""

from collections import deque
from concurrent.futures import Future
from threading import Lock


class AdmissionGate:
    """Lets at most `size` in at a time. Who comes later waits, first come, first served.

    Attributes:
        inside: how many are in.
        waiting: the futures of those who wait, the first comer first.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.inside = 0
        self.waiting: deque[Future[None]] = deque()
        self.lock = Lock()

    def enter(self) -> "Future[None]":
        """Ask to come in. The future is done as soon as one is in; who gives up waiting cancels it.

        What is called when it is done (`add_done_callback`) is called under the gate's lock, by the thread that leaves:
        it may pass the news on, as `asyncio.wrap_future` does, and must not come to the gate itself.
        """
        ticket: Future[None] = Future()
        with self.lock:
            if self.inside < self.size:
                self.inside += 1
                ticket.set_result(None)
            else:
                self.waiting.append(ticket)
        return ticket

    def leave(self) -> None:
        """One of those inside goes. The first of those who wait gets its place, if there is one.

        Tickets of those who have given up are skipped: `ticket.set_running_or_notify_cancel()` is False for them, and
        for the others it makes sure that they can give up no more.
        """
        raise NotImplementedError("ch08 exercise 5: Give a place to the next one")
