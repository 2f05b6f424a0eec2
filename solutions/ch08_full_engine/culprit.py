"""Which request makes steps fail, when the exception does not say: found by halves, before an innocent one ends.

A step serves many requests, and what is raised in it (while rows are packed, blocks get their names, text is made) may
be the fault of one. The first time all requests start over: most errors do not come again. When a step fails once more
and a request has still not got its next token, it is under suspicion. Those under suspicion are then served in groups,
apart from all others: half of them, and if that fails half of the half, until a group is a single request. One that
fails all by itself is at fault. A group whose members have all got a token is innocent, and the next one is tried.

With n under suspicion and one at fault this takes some 2 log2(n) short steps; meanwhile the others wait.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from weakref import WeakKeyDictionary

from ch02_continuous_batching import Batch, Observer, Request, RequestStatus, Scheduler
from toolkit.timeline import NO_SPAN


class CulpritSearch(Observer):
    """Who is under suspicion, and whose turn it is.

    Attributes:
        failures: for each request, how many steps have failed with it since its latest token.
        groups: those under suspicion that are still to be tried; the last group is being served. Empty: all are.
    """

    max_failures = 2

    def __init__(self) -> None:
        self.failures: WeakKeyDictionary[Request, int] = WeakKeyDictionary()
        self.groups: list[list[Request]] = []

    def step_failed(self, involved: list[Request]) -> Request | None:
        """A step has failed with these requests in it. Returns the one that is at fault, as soon as that is certain."""
        for request in involved:
            self.failures[request] = self.failures.get(request, 0) + 1
        suspects = [request for request in involved if self.failures[request] >= self.max_failures]
        if len(involved) == 1 and suspects:
            return suspects[0]
        if suspects:
            if self.groups:
                self.groups.pop()
            half = -(-len(suspects) // 2)
            self.groups += [group for group in (suspects[half:], suspects[:half]) if group]
        return None

    def committed(self, batch: Batch) -> None:
        """A request that has got a token is cleared."""
        if self.failures:
            for row in batch.sampling_rows:
                self.failures.pop(row.request, None)

    def only_the_group(self, scheduler: Scheduler) -> AbstractContextManager[None]:
        """Inside, the scheduler serves no requests but those of the present group, if there is one."""
        self._let_go()
        return self._only(set(self.groups[-1]), scheduler) if self.groups else NO_SPAN

    @contextmanager
    def _only(self, group: set[Request], scheduler: Scheduler) -> Iterator[None]:
        for request in [request for request in scheduler.running if request not in group]:
            scheduler.preempt(request)  # of the group before
        held_back = [request for request in scheduler.waiting if request not in group]
        scheduler.waiting = deque(request for request in scheduler.waiting if request in group)
        try:
            yield
        finally:
            for request in held_back:
                if request not in scheduler.waiting:  # a restart may have brought it back already
                    scheduler.add(request)
            self._let_go()

    def _let_go(self) -> None:
        """Groups whose members have all got a token, or have ended, are innocent."""
        while self.groups and not any(map(self._is_suspect, self.groups[-1])):
            self.groups.pop()

    def _is_suspect(self, request: Request) -> bool:
        return request in self.failures and request.status is not RequestStatus.FINISHED
