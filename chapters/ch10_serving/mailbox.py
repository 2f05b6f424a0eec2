"""From the engine's thread to the event loop: a whole step's outputs with one wake-up.

The engine runs in one thread, and all of HTTP in an event loop in another. An event loop may be touched by its own
thread alone; others wake it with `call_soon_threadsafe`, which writes a byte to a pipe that the loop sleeps on. That is
a system call, and with it the engine's thread gives Python's lock away: the loop runs at once, on one output, while the
others of the step have to wait. With 64 streams and a wake-up for each output that would be 64 changes of thread a
step, at the moment when the engine should prepare the next one. So outputs are put into a queue, and when a step has
put all of its outputs there, it rings the bell.
"""

from asyncio import AbstractEventLoop
from collections import deque
from typing import Protocol

from ch02_continuous_batching import RequestOutput


class Listener(Protocol):
    """What waits for outputs in the event loop."""

    def take(self, choice: int, output: RequestOutput) -> None:
        """The next output of a choice. Called in the event loop; must not raise."""


class Mailbox:
    """Takes outputs in the engine's thread and hands them out in the event loop, in the same order.

    Attributes:
        outputs: who is to get which output of which of its choices; `append` and `popleft` are safe in any thread.
        woken: a wake-up is on its way, and the loop has not looked since.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.outputs: deque[tuple[Listener, int, RequestOutput]] = deque()
        self.woken = False

    def put(self, listener: Listener, choice: int, output: RequestOutput) -> None:
        """In the engine's thread: leave an output. Nothing else happens yet."""
        raise NotImplementedError("ch10 exercise 1: One wake-up a step")

    def ring(self) -> None:
        """In the engine's thread, behind a step's last output: see to it that the event loop comes to `hand_out`.

        `self.loop.call_soon_threadsafe(self.hand_out)` wakes it, and is called only if there are outputs, and no
        wake-up is on its way already.
        """
        raise NotImplementedError("ch10 exercise 1: One wake-up a step")

    def hand_out(self) -> None:
        """In the event loop: hand everything out that is there.

        The engine's thread may put and ring at any moment. What it puts while this looks must either be seen by it, or
        `ring` must wake the loop once more: no output may stay behind until the next one comes; there may be none.
        """
        raise NotImplementedError("ch10 exercise 1: One wake-up a step")
