"""Who looks on while an engine works, and changes nothing: timelines, metrics, the virtual clock's prices.

The engine's own lines say what it does; what that is worth knowing for is in the observers.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ch02_continuous_batching.batch import Batch
from ch02_continuous_batching.request import Request, RequestOutput
from ch02_continuous_batching.scheduler import Scheduler
from toolkit.timeline import NO_SPAN, NoTimeline, Timeline


class Observer:
    """Is told what an engine does. Derive from it and override what you want to know."""

    def host(self, phase: str, *, step: int) -> AbstractContextManager[object]:
        """A phase of the host's work on a step, from its beginning to its end: "prepare", "launch", "commit"; or
        "wait", in which the host only waits for the device."""
        return NO_SPAN

    def device(self, name: str, *, lane: str, step: int) -> AbstractContextManager[object]:
        """Work that is queued on the device's current stream: "copy in", "forward", "copy out"."""
        return NO_SPAN

    def work(self, phase: str, *, rows: int) -> None:
        """The phase that is going on deals with so many rows."""

    def added(self, request: Request) -> None:
        """A request has come."""

    def committed(self, batch: Batch) -> None:
        """A batch is through, and each of its tokens is with its request."""

    def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
        """A step is over. `outputs` is what it returns; `idle` means that there is nothing left to do."""


class Observers:
    """Tells each of them, in the order given; a span of the timeline lies within those of the others.

    Attributes:
        others: all but the timeline. Assign to it to change who looks on.
        told: by the name of a method, those of the others that have one of their own. There is nothing that the rest
            could be told, and a step tells something a dozen times.
    """

    def __init__(self, timeline: Timeline | NoTimeline, *others: Observer) -> None:
        self.timeline, self.others = timeline, others

    @property
    def others(self) -> tuple[Observer, ...]:
        return self._others

    @others.setter
    def others(self, others: tuple[Observer, ...]) -> None:
        self._others = others
        methods = {name: method for name, method in vars(Observer).items() if not name.startswith("_")}
        self.told = {
            name: [other for other in others if getattr(type(other), name) is not method]
            for name, method in methods.items()
        }

    def host(self, phase: str, *, step: int) -> AbstractContextManager[object]:
        spans = [other.host(phase, step=step) for other in self.told["host"]]
        return _together([*spans, self.timeline.host(phase, step=step)])

    def device(self, name: str, *, lane: str = "compute", step: int) -> AbstractContextManager[object]:
        spans = [other.device(name, lane=lane, step=step) for other in self.told["device"]]
        return _together([*spans, self.timeline.device(name, lane=lane, step=step)])

    def work(self, phase: str, *, rows: int) -> None:
        for other in self.told["work"]:
            other.work(phase, rows=rows)

    def added(self, request: Request) -> None:
        for other in self.told["added"]:
            other.added(request)

    def committed(self, batch: Batch) -> None:
        for other in self.told["committed"]:
            other.committed(batch)

    def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
        for other in self.told["stepped"]:
            other.stepped(scheduler, outputs, idle=idle)


def _together(spans: Sequence[AbstractContextManager[object]]) -> AbstractContextManager[object]:
    """One context for all of them. There are seven in a step, so the usual case, none or one that counts, is quick."""
    real = [span for span in spans if span is not NO_SPAN]
    if len(real) < 2:
        return real[0] if real else NO_SPAN
    return _nested(real)


@contextmanager
def _nested(spans: Sequence[AbstractContextManager[object]]) -> Iterator[None]:
    with ExitStack() as stack:
        for span in spans:
            stack.enter_context(span)
        yield
