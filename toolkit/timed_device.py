"""What a device must have so that its work can be timed: `torch.cuda` has it, and whatever stands in for it.

These two types say it for all of them: the simulated GPU, the thread of toolkit/worker_queue.py, a virtual device in a
test.
"""

from typing import Protocol, Self


class TimingEvent(Protocol):
    """A marker in a device's queue, as torch.cuda.Event(enable_timing=True)."""

    def record(self) -> object:
        """Put the marker into the queue, behind everything launched so far. Returns at once."""

    def synchronize(self) -> None:
        """Block the host until the device has reached the marker."""

    def elapsed_time(self, end: Self) -> float:
        """Milliseconds from this marker to `end`, a 32-bit float. RuntimeError if the device has not reached both."""


class Accelerator(Protocol):
    """The part of torch.cuda that measuring needs."""

    # Capitalised because torch.cuda's is a class.
    def Event(self, *, enable_timing: bool) -> TimingEvent:  # noqa: N802
        """A new marker; only one made with enable_timing=True knows times."""

    def synchronize(self) -> None:
        """Block the host until the device has nothing left to do."""
