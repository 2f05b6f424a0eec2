"""The timeline recorder: wrap host work and device work in spans, get one picture with one time axis.

    timeline = Timeline("cuda")
    with timeline.host("prepare", step=3):
        batch = engine.prepare()
    with timeline.device("forward", step=3):      # two events in the current stream's queue; nothing waits
        engine.launch(batch)
    with timeline.host("wait", step=3):           # named "wait": the host was idle, not working
        torch.cuda.synchronize()
    recording = timeline.finish()                 # synchronises once and reads all events

Where there is no device with a queue of its own, the host's thread does the device's work itself, and its clock times
that correctly. The host lane shows "wait" for as long, since no host work is done then. A CUDA device's work runs later
than its launch, so there the device's own events are asked.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from toolkit.recordings import device_name
from toolkit.timed_device import Accelerator, TimingEvent
from toolkit.timeline.device_clock import DeviceClock
from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import WAIT, Span


class Timeline:
    """Records spans. One timeline belongs to one thread."""

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        accelerator: Accelerator | None = None,
        now: Callable[[], float] = time.perf_counter,
        clock: str | None = None,
        finishing: Callable[[Recording], Recording] = lambda recording: recording,
    ) -> None:
        """
        Args:
            device: where the device spans run.
            accelerator: whose events time the device spans. Default: torch.cuda for a CUDA device; for a CPU none, the
                host's clock times them. Any other device must name its own.
            now: the host's clock, seconds.
            clock: what the recording says of its times. Default: "cuda" for a CUDA device, else "host"; callers that
                pass a virtual clock as `now` say "simulated".
            finishing: adds to what `finish` returns, such as `simulated.with_details`.
        """
        kind = torch.device(device).type
        if accelerator is None and kind == "cuda":
            accelerator = torch.cuda
        if accelerator is None and kind != "cpu":
            raise ValueError(f"the host's clock cannot time work on {device!r}: pass its accelerator")
        self._accelerator = accelerator
        self._now = now
        self._finishing = finishing
        self._clock = clock or ("cuda" if kind == "cuda" else "host")
        # A device that torch itself cannot name, such as the simulated GPU, is named by its accelerator.
        name = getattr(accelerator, "get_device_name", None)
        self._device = device_name(device) if kind in ("cpu", "cuda") or name is None else name()
        self._spans: list[Span] = []
        self._pending: list[tuple[str, str, TimingEvent, TimingEvent, int | None]] = []
        self._device_clock = None if accelerator is None else DeviceClock(accelerator, now)

    @contextmanager
    def host(self, name: str, *, step: int | None = None) -> Iterator[None]:
        """A span of the host. Name it "wait" if the host only waits for the device in it."""
        start = self._now()
        yield
        self._spans.append(Span(name, "host", start, self._now(), step))

    @contextmanager
    def device(self, name: str, *, lane: str = "compute", step: int | None = None) -> Iterator[None]:
        """A span of work launched on the device's current stream.

        Open it behind the stream's `wait_event` calls: the stream would otherwise pass the start marker before it
        waits, and the waiting would look like work.
        """
        if self._accelerator is None:
            start = self._now()
            yield
            end = self._now()
            self._spans += [Span(name, lane, start, end, step), Span(WAIT, "host", start, end, step)]
            return
        first, last = (self._accelerator.Event(enable_timing=True) for _ in range(2))
        first.record()
        yield
        last.record()
        self._pending.append((name, lane, first, last, step))

    def finish(self) -> Recording:
        """Synchronise once, put all device spans on the host's clock, and return what was recorded so far."""
        if self._accelerator is not None and self._device_clock is not None:
            self._accelerator.synchronize()
            for name, lane, first, last, step in self._pending:
                start, end = self._device_clock.interval(first, last)
                self._spans.append(Span(name, lane, start, end, step))
            self._pending.clear()
        return self._finishing(Recording(tuple(self._spans), clock=self._clock, device=self._device))


NO_SPAN: AbstractContextManager[None] = nullcontext()
"""The span of an observer that does not look at something. All give this one, so that it is known for what it is."""


class NoTimeline:
    """The timeline that records nothing and costs nothing: `timeline or NO_TIMELINE` spares every `if`."""

    def host(self, name: str, *, step: int | None = None) -> AbstractContextManager[None]:
        return NO_SPAN

    def device(self, name: str, *, lane: str = "compute", step: int | None = None) -> AbstractContextManager[None]:
        return NO_SPAN

    def finish(self) -> Recording:
        return Recording(())


NO_TIMELINE = NoTimeline()
