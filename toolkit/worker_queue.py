"""A device made of one thread: work is queued, the launch returns at once, and the work runs later, in order.

It stands in for a GPU's queue where there is no GPU, for lessons and pictures about launching, waiting and measuring.
It has torch.cuda's `Event` and `synchronize`, so code that measures a GPU measures it too. torch releases Python's
global lock while it computes, so with a second core the host really goes on. Streams, memory and races are the
simulated GPU's business.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from toolkit.timed_device import Accelerator


def open_queue(device: torch.device) -> tuple[Accelerator, Callable[[Callable[[], object]], object]]:
    """What times a device's work, and a function that launches work on it: torch.cuda, or a new worker's queue."""
    if device.type == "cuda":
        return torch.cuda, lambda work: work()
    queue = WorkerQueue()
    return queue, queue.launch


class WorkerQueue:
    """One queue of work and the thread that works it off."""

    def __init__(self) -> None:
        # One core for the device, so that the host keeps one. The number of threads is a setting of each thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device", initializer=lambda: torch.set_num_threads(1))
        self._failed: BaseException | None = None

    def launch(self, work: Callable[[], object]) -> "Future[object]":
        """Queue `work` and return at once. If it fails, the next `synchronize` raises its error, as CUDA does."""
        return self._thread.submit(self._run, work)

    def synchronize(self) -> None:
        """Block until everything launched so far has run; raise the first error of it, once."""
        self._thread.submit(lambda: None).result()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed

    def Event(self, *, enable_timing: bool = False) -> "WorkerEvent":  # noqa: N802 (torch.cuda's name)
        """A marker in the queue; it always knows its time."""
        return WorkerEvent(self)

    def _run(self, work: Callable[[], object]) -> object:
        try:
            return work()
        except BaseException as error:  # it must surface in the host's thread, not end this one
            self._failed = self._failed or error
            return None


class WorkerEvent:
    """Notes the time at which the worker gets to it."""

    def __init__(self, queue: WorkerQueue) -> None:
        self._queue = queue
        self._passed: Future[object] | None = None

    def record(self) -> None:
        self._passed = self._queue.launch(time.perf_counter)

    def synchronize(self) -> None:
        if self._passed is not None:
            self._passed.result()

    def query(self) -> bool:
        """Whether the worker has passed the event; does not wait."""
        return self._passed is None or self._passed.done()

    def elapsed_time(self, end: "WorkerEvent") -> float:
        """Milliseconds from this event to `end`; RuntimeError if the worker has not passed both."""
        return (end._time() - self._time()) * 1e3

    def _time(self) -> float:
        if self._passed is None or not self._passed.done():
            raise RuntimeError("elapsed_time: the event has not been reached yet; synchronise before reading it")
        passed = self._passed.result()
        assert isinstance(passed, float)
        return passed
