"""An engine that hangs: its process is alive, and no request of it ever ends.

A kernel that never returns, or two threads that wait for each other, raise no error that anybody could catch, and a
connection to such a process stays open. So a second thread looks whether there are steps while there are requests. When
there have been none for long, or the engine says that its device is lost, the whole process ends: that is what others
can see, and Ray starts another one in its place.
"""

import logging
import os
from collections.abc import Callable
from threading import Event, Thread

from ch08_full_engine import Server

PATIENCE = 300.0  # seconds; the first steps may compile kernels and capture graphs
log = logging.getLogger(__name__)


def end_process(reason: str) -> None:
    """End this process at once, whatever its other threads hold or wait for."""
    log.critical("the engine's process ends: %s", reason)
    os._exit(1)


class Watchdog(Thread):
    """Watches the engine of a server until it is closed.

    Args:
        patience: seconds without a step while there are requests, after which the engine counts as hung.
        give_up: called with the reason, once.
    """

    def __init__(
        self, server: Server, patience: float = PATIENCE, give_up: Callable[[str], object] = end_process
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.server, self.patience, self.give_up = server, patience, give_up
        self.closing = Event()
        self.start()

    def run(self) -> None:
        engine, requests = self.server.engine, self.server.thread.callbacks
        steps, still = -1, 0.0
        interval = self.patience / 20
        while not self.closing.wait(interval):
            still = still + interval if requests and engine.num_steps == steps else 0.0
            steps = engine.num_steps
            if engine.stopped or still >= self.patience:
                self.give_up(engine.stopped or f"no step in {self.patience:.0f} s")
                return

    def close(self) -> None:
        self.closing.set()
        self.join()
