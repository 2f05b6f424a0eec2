"""Events: marks in a stream's queue that other streams and the host can wait for, and whose times can be compared."""

import itertools

from toolkit.simgpu.captures import Point
from toolkit.simgpu.errors import CaptureError
from toolkit.simgpu.ordering import Actor, Wait
from toolkit.simgpu.queues import Moment, Queue
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.sites import caller_site

_numbers = itertools.count(1)


class Mark:
    """All of an event except that streams have a current one: `streams.Event` adds that."""

    def __init__(self, enable_timing: bool) -> None:
        self.enable_timing = enable_timing
        self._moment: Moment | None = None
        self._captured: Point | None = None
        self._run = runtime.run
        self._number = next(_numbers)  # in records, which must not keep the event alive

    def record_on(self, stream: Queue) -> None:
        """Mark the point behind everything queued so far on `stream`. May be repeated."""
        runtime.refuse_in_box("Event.record")
        with runtime.lock:
            self._record_on(stream)

    def _record_on(self, stream: Queue) -> None:
        stream.must_be_current_run()
        runtime.clock.host_call()
        self._run, self._moment, self._captured = runtime.run, None, None
        if (capture := runtime.capture_on(stream)) is not None:
            self._captured = capture.record(stream)
            return
        record = stream.make_record(self._number, runtime.next_place(), caller_site(), stream.next_ms)
        if not self.enable_timing:
            stream.keep(record, runtime.host.knows.get(stream, 0))
        self._moment = stream.moment(record)

    def wait_on(self, stream: Queue) -> None:
        """Later work of `stream` waits for the point recorded last; none: no effect."""
        runtime.refuse_in_box("Event.wait")
        with runtime.lock:
            self._wait_on(stream)

    def _wait_on(self, stream: Queue) -> None:
        stream.must_be_current_run()
        runtime.clock.host_call()
        if self._captured is not None and runtime.capture is not None:
            runtime.capture.wait(stream, self._captured)
            return
        moment = self._recorded("wait")
        if moment is not None:
            if runtime.capture_on(stream) is not None:
                raise CaptureError(
                    "dependency created on uncaptured work while capturing a graph: wait before the capture"
                )
            stream.wait_for(moment)
        self._note_wait(stream)

    def synchronize(self) -> None:
        """The host waits for the point recorded last; without one it returns at once."""
        runtime.refuse_in_capture("Event.synchronize")
        moment = self._recorded("synchronize")
        if moment is not None:
            runtime.host_wait(moment, "Event.synchronize")
        self._note_wait(runtime.host)

    def query(self) -> bool:
        """Has the device passed the point recorded last, by the virtual clock? True without one."""
        runtime.refuse_in_capture("Event.query")
        runtime.clock.host_call()
        runtime.policy.host_step()
        moment = self._recorded("query")
        return moment is None or self._has_passed(moment)

    def elapsed_time(self, end_event: "Mark") -> float:
        """Milliseconds of simulated time from this event to `end_event`, both recorded with timing and passed.

        Raises:
            RuntimeError: one of them has not passed yet. (Where it returns, the host knows that both have.)
        """
        runtime.refuse_in_capture("Event.elapsed_time")
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        start, end = self._recorded("elapsed_time"), end_event._recorded("elapsed_time")
        if start is None or end is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self._has_passed(start) and self._has_passed(end)):
            raise RuntimeError(
                "Both events must be completed before calculating elapsed time: synchronize on the later one first"
            )
        return end.ms - start.ms

    @property
    def simulated_ms(self) -> float | None:
        """When the point recorded last is passed, on the virtual clock; None without one."""
        return None if self._moment is None else self._moment.ms

    def _has_passed(self, moment: Moment) -> bool:
        """Is everything before the moment done? If so the host knows it from now on."""
        if not moment.has_passed():
            return False
        runtime.host.learn(moment.knows)
        runtime.raise_device_error()
        return True

    def _note_wait(self, waiter: Actor) -> None:
        record = self._moment.record if self._moment is not None else None
        runtime.note_wait(waiter, Wait(record, self._number, runtime.next_place(), caller_site()))

    def _recorded(self, call: str) -> Moment | None:
        if self._moment is not None and self._run != runtime.run:
            raise RuntimeError("event was recorded before reset(); make streams, events and graphs after it")
        if self._captured is not None:
            raise CaptureError(f"Event.{call}: the event was recorded while a graph was captured and marks no work")
        return self._moment

    def __repr__(self) -> str:
        return f"<simgpu.Event {'recorded' if self._moment else 'not recorded'}>"
