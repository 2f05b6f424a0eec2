"""Streams: queues of work, each in order, with no order between them but the one that events make.

As in PyTorch (whose streams are "non-blocking"), the default stream is a stream like any other: it neither waits for
the others nor do they wait for it. Not modelled: priorities (accepted and ignored), external streams.
"""

from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from toolkit.simgpu.errors import CaptureError
from toolkit.simgpu.operations import Operation
from toolkit.simgpu.ordering import Actor, Record, Wait
from toolkit.simgpu.races import Access
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.sites import caller_site

if TYPE_CHECKING:
    from toolkit.simgpu.events import Event


class Moment(NamedTuple):
    """A point in a stream's queue: behind everything queued so far. It is what an event remembers."""

    stream: "Stream"
    operations: list[Operation]  # what must be done before it: the stream's last one, and events waited for since
    knows: dict[Actor, int]  # what has happened by then
    ms: float  # when, on the virtual clock
    record: Record | None = None  # what was recorded here, if it was an event or is meant for another stream

    def has_passed(self) -> bool:
        """Has the virtual clock passed this point? If so the work before it is done as well."""
        if runtime.clock.now < self.ms:
            return False
        self.finish()
        return True

    def finish(self) -> None:
        """Run whatever has not run yet before this point."""
        for each in self.operations:
            runtime.policy.finish(each)

    def forget_in(self, history: list[Access]) -> None:
        """Drop the accesses that happened before this point."""
        history[:] = [each for each in history if self.knows.get(each.actor, 0) < each.number]


class Stream(Actor):
    """A queue of operations on the simulated GPU.

    Args:
        device: accepted for torch.cuda's sake; there is one device.
        priority: accepted and ignored.
        name: for messages and timelines. (torch.cuda's streams have no names; `toolkit.device.new_stream` works on
            both.)
    """

    def __init__(self, device: object = None, priority: int = 0, name: str | None = None) -> None:
        super().__init__(name or f"stream{len(runtime.streams) + 1}")
        self.priority = priority
        self.last: Operation | None = None
        self.ready_ms = 0.0  # when everything queued so far is done, on the virtual clock
        self._pending: list[Operation] = []  # events waited for since the last operation
        self._run = runtime.run
        runtime.streams.append(self)

    def must_be_current_run(self) -> None:
        if self._run != runtime.run:
            raise RuntimeError(
                f"stream {self.name!r} was made before reset(); make streams, events and graphs after it"
            )

    def moment(self, record: Record | None = None) -> Moment:
        """The point behind everything queued so far."""
        self.learn(runtime.host.knows)
        return Moment(self, self._dependencies(), dict(self.knows), max(self.ready_ms, runtime.clock.now), record)

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

    def wait_event(self, event: "Event") -> None:
        """Later work of this stream waits for what `event` has recorded so far (nothing, if it was never recorded)."""
        event.wait(self)

    def wait_stream(self, stream: "Stream") -> None:
        """Later work of this stream waits for everything queued on `stream` so far."""
        self.must_be_current_run()
        stream.must_be_current_run()
        self._refuse_fork(stream)
        runtime.clock.host_call()
        record = stream.make_record(None, runtime.next_place(), caller_site())
        self.wait_for(stream.moment(record))
        runtime.note_wait(self, Wait(record, None, runtime.next_place(), record.site))

    def record_event(self, event: "Event | None" = None) -> "Event":
        """Record `event`, or a new one, behind everything queued on this stream so far; returns it."""
        from toolkit.simgpu.events import Event

        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """The host waits until everything queued on this stream so far is done."""
        self.must_be_current_run()
        runtime.host_wait(self.moment(), "Stream.synchronize")

    def query(self) -> bool:
        """Is everything queued on this stream done, by the virtual clock?"""
        runtime.refuse_in_capture("Stream.query")
        runtime.clock.host_call()
        moment = self.moment()
        if self.ready_ms > runtime.clock.now or not moment.has_passed():
            return False
        runtime.host.learn(moment.knows)
        runtime.raise_device_error()
        return True

    def _refuse_fork(self, other: "Stream") -> None:
        if runtime.capture is not None and other is not self:
            raise CaptureError("dependency created on uncaptured work in another stream while capturing a graph")

    def __enter__(self) -> "Stream":
        self.must_be_current_run()
        _stack().append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stack().pop()

    def __repr__(self) -> str:
        return f"<simgpu.Stream {self.name}>"


def _stack() -> list[Stream]:
    """The streams that this thread has entered, innermost last (as in CUDA, each thread has its own)."""
    if not hasattr(runtime.thread, "stack"):
        runtime.thread.stack = []
    return runtime.thread.stack


def default_stream(device: object = None) -> Stream:
    """The stream on which work goes when no other was chosen."""
    if runtime.default_stream is None:
        runtime.default_stream = Stream(name="default")
    return runtime.default_stream


def current_stream(device: object = None) -> Stream:
    """The stream on which this thread's work goes now."""
    stack = _stack()
    return stack[-1] if stack else default_stream()


class StreamContext:
    """`with stream(s):` makes `s` the current stream; `None` changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> Stream | None:
        return self.stream.__enter__() if self.stream is not None else None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.stream is not None:
            self.stream.__exit__(kind, error, trace)


def stream(stream: Stream | None) -> StreamContext:
    """The context manager that makes `stream` the current one."""
    return StreamContext(stream)


def set_stream(stream: Stream) -> None:
    """Make `stream` the current one until further notice."""
    _stack()[-1:] = [stream]


def synchronize(device: object = None) -> None:
    """The host waits until everything queued on every stream is done."""
    runtime.refuse_in_capture("synchronize")
    default_stream()
    for each in list(runtime.streams):
        runtime.host_wait(each.moment(), "synchronize")
