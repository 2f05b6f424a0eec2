"""The spans that the metrics open: a phase of the host's work, and a forward on the device.

They are classes because a step opens five of them: a function with @contextmanager is shorter, and takes three times as
long to enter and to leave.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from toolkit import device


class HostSpan(AbstractContextManager[None]):
    """Tells `then` how many ms have passed, unless something is raised."""

    def __init__(self, then: Callable[[float], None]) -> None:
        self.then = then
        self.start = 0.0

    def __enter__(self) -> None:
        self.start = device.now_ms()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.then(device.now_ms() - self.start)


class DeviceSpan(AbstractContextManager[None]):
    """Gives `then` two timing events around the work queued on the current stream, unless something is raised.

    Args:
        spare: timing events that are not needed any more; two of them are taken, or made. (CUDA takes longer to make
            and to destroy an event than to record it.)
    """

    def __init__(self, then: Callable[[Any, Any], None], spare: list[Any]) -> None:
        self.then, self.spare = then, spare
        self.stream: Any = None  # looked up once: that takes longer than a record, too
        self.first: Any = None

    def __enter__(self) -> None:
        self.stream = device.accelerator.current_stream()
        self.first = self.event()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.then(self.first, self.event())

    def event(self) -> Any:  # noqa: ANN401 (of either kind)
        """A timing event, recorded now."""
        event = self.spare.pop() if self.spare else device.accelerator.Event(enable_timing=True)
        event.record(self.stream)
        return event
