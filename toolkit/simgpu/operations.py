"""One operation in a stream: a piece of work, and the operations that must have run before it."""

import threading
from collections.abc import Callable

import torch

from toolkit.simgpu.errors import DeviceError
from toolkit.simgpu.sites import Site


class Operation:
    """Work that was queued and runs some time later.

    Attributes:
        work: the work itself; dropped once done, so that the tensors it holds can go.
        after: what must be done first: the previous operation of the stream and the events waited for.
        number: place in the program's order.
        done: it has run, or was skipped because an earlier operation failed.
        finished: set once done, for the policy that runs operations in threads.
    """

    __slots__ = ("after", "done", "finished", "lane", "name", "number", "site", "work")

    def __init__(
        self, name: str, lane: str, site: Site, number: int, work: Callable[[], object], after: "list[Operation]"
    ) -> None:
        self.name, self.lane, self.site, self.number = name, lane, site, number
        self.work: Callable[[], object] | None = work
        self.after = after
        self.done = False
        self.finished: threading.Event | None = None

    def run(self, failures: "list[tuple[Operation, BaseException]]") -> None:
        """Do the work unless something failed before; a failure is noted for the next synchronisation to raise."""
        if self.done:
            return
        if not failures and self.work is not None:
            try:
                with torch.inference_mode():  # the mode belongs to the launching thread, not to the device
                    self.work()
            except (Exception, SystemExit) as error:  # it must surface at a synchronisation and never be lost
                failures.append((self, error))
        self.work = None
        self.after = []
        self.done = True


def failure(operation: Operation, cause: BaseException) -> DeviceError:
    """The error that an operation's failure surfaces as."""
    error = DeviceError(
        f"{operation.name} on {operation.lane} failed: {type(cause).__name__}: {cause}\n"
        f"  it was launched at {operation.site}\n  the device is unusable until reset()"
    )
    error.__cause__ = cause
    return error
