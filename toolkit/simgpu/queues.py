"""A stream as the simulator sees it: a queue of work in order, and points in it that others can wait for."""

from typing import NamedTuple

from toolkit.simgpu.clock import Clock
from toolkit.simgpu.operations import Operation
from toolkit.simgpu.ordering import Actor, Record
from toolkit.simgpu.policies import Policy


class Moment(NamedTuple):
    """A point in a queue: behind everything queued so far. It is what an event remembers."""

    operations: list[Operation]  # what must be done before it: the queue's last one, and events waited for since
    knows: dict[Actor, int]  # what has happened by then
    ms: float  # when, on the virtual clock
    clock: Clock
    policy: Policy
    record: Record | None = None  # what was recorded here, if it was an event or is meant for another stream

    def has_passed(self) -> bool:
        """Has the virtual clock passed this point? If so the work before it is done as well."""
        if self.clock.now < self.ms:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Run whatever has not run yet before this point."""
        for each in self.operations:
            self.policy.finish(each)


class Queue(Actor):
    """A queue of operations, in one run of the simulator (from one `reset` to the next).

    Args:
        name: for messages and timelines.
        host, clock, policy: those of the run.

    Attributes:
        last: the operation queued last.
        ready_ms: when everything queued so far is done, on the virtual clock.
        ended: its run is over.
    """

    def __init__(self, name: str, host: Actor, clock: Clock, policy: Policy) -> None:
        super().__init__(name)
        self._host, self._clock, self._policy = host, clock, policy
        self.last: Operation | None = None
        self.ready_ms = 0.0
        self.ended = False
        self._pending: list[Operation] = []  # events waited for since the last operation

    def must_be_current_run(self) -> None:
        if self.ended:
            raise RuntimeError(
                f"stream {self.name!r} was made before reset(); make streams, events and graphs after it"
            )

    @property
    def next_ms(self) -> float:
        """When what is queued next could start, on the virtual clock."""
        return max(self.ready_ms, self._clock.now)

    def moment(self, record: Record | None = None) -> Moment:
        """The point behind everything queued so far."""
        self.learn(self._host.knows)
        return Moment(self._dependencies(), dict(self.knows), self.next_ms, self._clock, self._policy, record)

    def wait_for(self, moment: Moment) -> None:
        """What is queued here from now on starts after `moment`."""
        self._pending += [each for each in moment.operations if not each.done]
        self.learn(moment.knows)
        self.ready_ms = max(self.ready_ms, moment.ms)

    def take_dependencies(self) -> list[Operation]:
        """What the next operation must run after."""
        dependencies, self._pending = self._dependencies(), []
        return dependencies

    def _dependencies(self) -> list[Operation]:
        return [each for each in (self.last, *self._pending) if each is not None and not each.done]
