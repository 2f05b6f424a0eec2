"""From the engine's thread to the event loop: a whole step's outputs with one wake-up.

The engine runs in one thread, and all of HTTP in an event loop in another. An event loop may be touched by its own
thread alone; others wake it with `call_soon_threadsafe`, which writes a byte to a pipe that the loop sleeps on. That is
a system call, and with it the engine's thread gives Python's lock away at a moment when it has work to do. With 64
streams and a wake-up for each token that would be 64 of them a step. So the outputs wait in a queue, and only one
wake-up is on its way at a time: the first output of a step rings the bell, and by the time that the loop looks, the
others are there.
"""

from asyncio import AbstractEventLoop
from collections import deque
from typing import Protocol

from ch02_continuous_batching import RequestOutput


class Listener(Protocol):
    """Whoever waits for outputs in the event loop."""

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
        """In the engine's thread: leave an output, and see to it that the event loop comes to `hand_out`.

        `self.loop.call_soon_threadsafe(self.hand_out)` wakes it, and is called only if no wake-up is on its way.
        """
        raise NotImplementedError("ch10 exercise 1: One wake-up a step")

    def hand_out(self) -> None:
        """In the event loop: hand everything out that is there.

        The engine's thread may `put` at any moment, so whatever is put while this looks must either be seen by it or
        wake the loop once more. No output may stay behind until the next one comes, since there may be none.
        """
        raise NotImplementedError("ch10 exercise 1: One wake-up a step")
