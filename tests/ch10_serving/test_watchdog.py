"""A watchdog ends a process whose engine hangs, or has lost its device, and no other."""

import time
from queue import Queue
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from ch10_serving.watchdog import Watchdog

LONG = 30  # seconds; only waited for where something is wrong


@pytest.fixture
def server() -> Any:
    engine = SimpleNamespace(num_steps=0, stopped="")
    return SimpleNamespace(engine=engine, thread=SimpleNamespace(callbacks={}))


def test_an_engine_that_hangs(server: Any):
    """There is a request, and no step."""
    reasons: Queue[str] = Queue()
    server.thread.callbacks["a"] = print
    Watchdog(server, 0.1, reasons.put)
    assert "no step" in reasons.get(timeout=LONG)


def test_an_engine_whose_device_is_lost(server: Any):
    reasons: Queue[str] = Queue()
    watchdog = Watchdog(server, 0.1, reasons.put)
    server.engine.stopped = "the device has failed"
    assert reasons.get(timeout=LONG) == "the device has failed"
    watchdog.join(LONG)
    assert reasons.empty() and not watchdog.is_alive(), "once"


@pytest.mark.parametrize("busy", [False, True])
def test_an_engine_that_is_idle_or_works(server: Any, busy: bool):
    """No request for long, or a step now and then, is no reason."""
    reasons: Queue[str] = Queue()
    if busy:
        server.thread.callbacks["a"] = print
    done = []

    def work() -> None:
        while not done:
            server.engine.num_steps += 1
            time.sleep(0.001)

    worker = Thread(target=work)
    if busy:
        worker.start()
    watchdog = Watchdog(server, 2.0, reasons.put)
    time.sleep(0.5)
    watchdog.close()
    done.append(True)
    if busy:
        worker.join()
    assert reasons.empty()
