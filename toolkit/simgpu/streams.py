"""Streams and events: queues of work, each in order, with no order between them but the one that events make.

As in PyTorch (whose streams are "non-blocking"), the default stream is a stream like any other: it neither waits for
the others nor do they wait for it. Not modelled: priorities (accepted and ignored), external streams.
"""

from contextlib import suppress
from types import TracebackType

from toolkit.simgpu.errors import DeviceError
from toolkit.simgpu.events import Mark
from toolkit.simgpu.handles import Described
from toolkit.simgpu.ordering import Wait
from toolkit.simgpu.queues import Queue
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.sites import caller_site


class Stream(Described, Queue):
    """A queue of operations on the simulated GPU.

    Args:
        device: accepted for torch.cuda's sake; there is one device.
        priority: accepted and ignored.
        name: for messages and timelines. (torch.cuda's streams have no names.)
    """

    def __init__(self, device: object = None, priority: int = 0, name: str | None = None) -> None:
        super().__init__(name or f"stream{len(runtime.streams) + 1}", runtime.host, runtime.clock, runtime.policy)
        self.priority, self.stream_id = priority, len(runtime.streams)
        self.made_at = None if name else caller_site()  # one without a name is told apart by its line
        runtime.streams.append(self)

    def wait_event(self, event: "Event") -> None:
        """Later work of this stream waits for what `event` has recorded so far (nothing, if it was never recorded)."""
        event.wait(self)

    def wait_stream(self, stream: "Stream") -> None:
        """Later work of this stream waits for everything queued on `stream` so far."""
        self.must_be_current_run()
        stream.must_be_current_run()
        runtime.refuse_in_box("Stream.wait_stream")
        with runtime.lock:
            if runtime.capture_on(stream) is not None or runtime.capture_on(self) is not None:
                runtime.order(stream, self)
                return
            runtime.clock.host_call()
            record = stream.make_record(None, runtime.next_place(), caller_site(), stream.next_ms)
            self.wait_for(stream.moment(record))
            runtime.note_wait(self, Wait(record, None, runtime.next_place(), record.site))

    def record_event(self, event: "Event | None" = None) -> "Event":
        """Record `event`, or a new one, behind everything queued on this stream so far; returns it."""
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

    def is_capturing(self) -> bool:
        """Is a graph being captured on this stream?"""
        return runtime.capture_on(self) is not None

    def __enter__(self) -> "Stream":
        self.must_be_current_run()
        _stack().append(self)
        _note_choice()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _stack().pop()
        _note_choice()

    def __repr__(self) -> str:
        return f"<simgpu.Stream {self.name}>"


class Event(Described, Mark):
    """A mark in a stream's queue. Its times are those of the virtual clock, under every policy.

    Args:
        enable_timing: needed on both events of `elapsed_time`.
        blocking: accepted for torch.cuda's sake; it changes how the host waits, not for what.
    """

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, external: bool = False
    ) -> None:
        if interprocess or external:
            raise NotImplementedError("simgpu: interprocess events, and external events in graphs")
        super().__init__(enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Mark the point behind everything queued so far on `stream` (default: the current one). May be repeated."""
        self.record_on(stream or current_stream())

    def wait(self, stream: Stream | None = None) -> None:
        """Later work of `stream` (default: the current one) waits for the point recorded last; none: no effect."""
        self.wait_on(stream or current_stream())


def _stack() -> list[Stream]:
    """The streams that this thread has entered, innermost last (as in CUDA, each thread has its own)."""
    if not hasattr(runtime.thread, "stack"):
        runtime.thread.stack = []
    return runtime.thread.stack


def _note_choice() -> None:
    """Remember it for the backward pass, if there will be one."""
    runtime.passes.log.note(current_stream())


def own_stream(name: str) -> Stream:
    """A stream that the simulator makes by itself, at its first use in a run."""
    found = runtime.own_streams.get(name)
    if not isinstance(found, Stream):
        found = runtime.own_streams[name] = Stream(name=name)
    return found


def default_stream(device: object = None) -> Stream:
    """The stream on which work goes when no other was chosen."""
    return own_stream("default")


def current_stream(device: object = None) -> Stream:
    """The stream on which this thread's work goes now."""
    stack = _stack()
    if stack:
        return stack[-1]
    of_backward = runtime.passes.current_stream()
    return of_backward if isinstance(of_backward, Stream) else default_stream()


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
    _note_choice()


def synchronize(device: object = None) -> None:
    """The host waits until everything queued on every stream is done. Raises DeviceError then, if something failed."""
    runtime.refuse_in_capture("synchronize")
    default_stream()
    for each in list(runtime.streams):
        with suppress(DeviceError):  # the others are waited for all the same
            runtime.host_wait(each.moment(), "synchronize")
    runtime.raise_device_error()
