"""Tells a test that never ends from a machine that is slow or busy.

A clock on the wall cannot: beside two other programs a test takes three times as long. So time is counted in seconds
of an ordinary machine with a free core. While a test runs, the parent process does a small piece of work now and then
and measures how long that takes *here and now*; where it takes four times as long, the test gets four times as long.
"""

import time

import psutil

TICK = 1.0  # seconds between two looks at a test that has not ended
WORK = 500_000  # numbers to add up, which takes an ordinary machine this many seconds:
WORK_SECONDS = 0.01
COMPUTES = 0.2  # a process that used less than this share of its time was mostly asleep


def speed() -> float:
    """How fast this process is served just now: 1.0 on an ordinary machine with a free core, less on any other."""
    start = time.perf_counter()
    sum(range(WORK))
    return min(1.0, WORK_SECONDS / (time.perf_counter() - start))


class Patience:
    """How long a process has been at one test, in seconds of an ordinary machine.

    Attributes:
        waited: these seconds; 0 again with every `restart`.
    """

    def __init__(self, process_id: int) -> None:
        self.process_id = process_id
        self.restart()

    def restart(self) -> None:
        """The process has made progress."""
        self.waited = 0.0
        self._cpu_before = cpu_seconds(self.process_id)

    def tick(self) -> None:
        """Another TICK has passed without progress."""
        self.waited += TICK * speed()

    def computes(self) -> bool:
        """Whether the process was busy since the last restart; otherwise it was mostly asleep."""
        return cpu_seconds(self.process_id) - self._cpu_before >= COMPUTES * self.waited


def cpu_seconds(process_id: int) -> float:
    """Processor time that all threads of a process have used; 0.0 if there is no such process any more."""
    try:
        times = psutil.Process(process_id).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system
