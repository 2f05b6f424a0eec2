"""When queued operations run: four policies, all of them within what CUDA's ordering rules allow.

eager        at launch, in the program's order: a lucky GPU, on which a missing event goes unnoticed
lazy         only once the host waits for it, and only what that needs: the unluckiest GPU for code that forgot to wait
random:SEED  any order that respects streams and events, drawn from SEED; the same seed gives the same order
threads      one worker thread per stream: real overlap, since torch's kernels release Python's lock; not reproducible
"""

import queue
import random
import sys
import threading
from collections import deque
from typing import Protocol

from toolkit.simgpu.operations import Operation

Failures = list[tuple[Operation, BaseException]]


class Policy(Protocol):
    """What the runtime asks of a policy. `failures` collects what went wrong while running."""

    failures: Failures

    def submit(self, operation: Operation, stream: object) -> None:
        """An operation was launched into `stream`."""

    def finish(self, operation: Operation) -> None:
        """Return once `operation` is done."""

    def host_step(self) -> None:
        """The host did something: an adversary may let the device advance a little."""

    def close(self) -> None:
        """No more operations will come; everything submitted has been finished."""


class Eager:
    def __init__(self) -> None:
        self.failures: Failures = []

    def submit(self, operation: Operation, stream: object) -> None:
        operation.run(self.failures)

    def finish(self, operation: Operation) -> None:
        pass

    def host_step(self) -> None:
        pass

    def close(self) -> None:
        pass


class Lazy(Eager):
    def submit(self, operation: Operation, stream: object) -> None:
        pass

    def finish(self, operation: Operation) -> None:
        needed, unseen = {operation}, [operation]
        while unseen:
            for before in unseen.pop().after:
                if not before.done and before not in needed:
                    needed.add(before)
                    unseen.append(before)
        for each in sorted(needed, key=lambda op: op.number):
            each.run(self.failures)


class Random(Eager):
    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)
        self._pace = self._rng.choice((0.0, 0.1, 0.3, 0.6))  # how far the device runs without being waited for
        self._queues: dict[object, deque[Operation]] = {}

    def submit(self, operation: Operation, stream: object) -> None:
        self._queues.setdefault(stream, deque()).append(operation)
        self.host_step()

    def finish(self, operation: Operation) -> None:
        while not operation.done:
            self._run_one()

    def host_step(self) -> None:
        while self._rng.random() < self._pace and self._run_one():
            pass

    def _run_one(self) -> bool:
        """Run the head of one stream, any whose events have happened; False if all streams are empty."""
        ready = [each for each in self._queues.values() if each and all(before.done for before in each[0].after)]
        if not ready:
            return False
        self._rng.choice(ready).popleft().run(self.failures)
        return True


class Threads(Eager):
    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[object, queue.SimpleQueue[Operation | None]] = {}
        self._switch_interval = sys.getswitchinterval()

    def submit(self, operation: Operation, stream: object) -> None:
        operation.finished = threading.Event()
        if not self._queues:
            sys.setswitchinterval(0.0005)  # a busy host keeps Python's lock for this long (else 5 ms) from the workers
        if stream not in self._queues:
            self._queues[stream] = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(self._queues[stream],), daemon=True).start()
        self._queues[stream].put(operation)

    def finish(self, operation: Operation) -> None:
        assert operation.finished is not None
        operation.finished.wait()

    def close(self) -> None:
        for each in self._queues.values():
            each.put(None)
        sys.setswitchinterval(self._switch_interval)

    def _work(self, operations: "queue.SimpleQueue[Operation | None]") -> None:
        while (operation := operations.get()) is not None:
            for before in operation.after:
                self.finish(before)
            operation.run(self.failures)
            assert operation.finished is not None
            operation.finished.set()


def make_policy(name: str) -> Policy:
    """The policy called `name`: "eager", "lazy", "threads" or "random:SEED" with a whole number."""
    kind, _, seed = name.partition(":")
    if kind == "random" and seed.isdigit():
        return Random(int(seed))
    if name in ("eager", "lazy", "threads"):
        return {"eager": Eager, "lazy": Lazy, "threads": Threads}[name]()
    raise ValueError(f'unknown policy {name!r}: use "eager", "lazy", "threads" or "random:SEED", such as "random:7"')
