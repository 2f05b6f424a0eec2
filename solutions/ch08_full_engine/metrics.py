"""What an engine says of itself: steps, tokens, queues, blocks, and where the time goes.

A server looks at these figures all the time, so they must cost next to nothing: counters, a clock that is read a few
times a step, and two device events around each forward, read when the step is committed (by then they are done).
"""

from collections import Counter, deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ch02_continuous_batching import Observer, Request, RequestOutput, Scheduler
from ch08_full_engine.spans import DeviceSpan, HostSpan
from toolkit import device
from toolkit.percentile import percentile
from toolkit.timeline import NO_SPAN
from toolkit.timeline.recording import WAIT

REMEMBERED = 10_000  # so many of the latest latencies are kept


@dataclass(slots=True)
class _Times:
    """Of an open request: when it was added, or got its latest token."""

    since: float
    has_token: bool = False


@dataclass
class Metrics(Observer):
    """Counters and latencies since the engine was made. Times in ms, on the virtual clock where the GPU is simulated.

    Attributes:
        steps: committed steps. tokens: tokens handed out.
        finished: terminal outputs, by reason.
        waiting, running: requests in the scheduler's queues, after the latest step.
        free_blocks: blocks of the KV cache that can be had, after the latest step.
        shared_tokens: tokens that were not computed, because a shared block held them.
        host_ms: the host's own work, its waiting for the device left out. waiting_ms: that waiting.
        device_ms: from the first kernel to the last of every step. idle_ms: between two steps, while there was work.
        first_token_ms: from `add_request` to a request's first token, of the latest requests.
        inter_token_ms: from one token of a request to its next, of the latest tokens.
    """

    steps: int = 0
    tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    running: int = 0
    free_blocks: int = 0
    shared_tokens: int = 0
    host_ms: float = 0.0
    waiting_ms: float = 0.0
    device_ms: float = 0.0
    idle_ms: float = 0.0
    first_token_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    inter_token_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _open: dict[str, deque[_Times]] = field(default_factory=dict)  # by name, the oldest first: a name may come again
    _events: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # around the forward of each step in flight
    _device_end: Any = None  # the event behind the latest committed forward
    _spare: list[Any] = field(default_factory=list)  # events that were read

    def added(self, request: Request) -> None:
        self._open.setdefault(request.request_id, deque()).append(_Times(device.now_ms()))

    def host(self, phase: str, *, step: int) -> AbstractContextManager[object]:
        return HostSpan(partial(self.spent, phase, step))

    def spent(self, phase: str, step: int, ms: float) -> None:
        """A phase of the host's work is over."""
        if phase == WAIT:
            self.waiting_ms += ms
            self.forward(*self._events.pop(step))
            for taken_back in [earlier for earlier in self._events if earlier < step]:
                del self._events[taken_back]
        else:
            self.host_ms += ms

    def device(self, name: str, *, lane: str, step: int) -> AbstractContextManager[object]:
        return DeviceSpan(partial(self.queued, step), self._spare) if name == "forward" else NO_SPAN

    def queued(self, step: int, start: Any, end: Any) -> None:  # noqa: ANN401 (events of either kind)
        """A step's forward is queued, with these timing events around it."""
        self._events[step] = start, end

    def stepped(self, scheduler: Scheduler, outputs: Sequence[RequestOutput], *, idle: bool) -> None:
        self.count_outputs(outputs, device.now_ms())
        self.waiting, self.running = len(scheduler.waiting), len(scheduler.running)
        self.free_blocks = scheduler.blocks.num_free_blocks
        self.shared_tokens = scheduler.blocks.num_shared_tokens
        if idle:
            self._device_end = None  # what the device idles from now on is not the engine's fault
            self._events.clear()  # after an error there may be some left

    def count_outputs(self, outputs: Sequence[RequestOutput], now: float) -> None:
        """Counts and latencies of what a step returns."""
        for output in outputs:
            self._output(output, now)

    def _output(self, output: RequestOutput, now: float) -> None:
        times = self._open.get(output.request_id)
        if times is None:  # an interrupt in here may cost a figure, and never more than that
            return
        if output.new_token_ids:
            request = times[0]
            (self.inter_token_ms if request.has_token else self.first_token_ms).append(now - request.since)
            request.since, request.has_token = now, True
            self.tokens += len(output.new_token_ids)
        if output.finish_reason is not None:
            self.finished[output.finish_reason.value] += 1
            if len(times) > 1:
                times.popleft()
            else:
                del self._open[output.request_id]

    def forward(self, start: Any, end: Any) -> None:  # noqa: ANN401 (events of either kind)
        """A step is committed; its forward ran between these two timing events."""
        self.steps += 1
        self.device_ms += start.elapsed_time(end)
        if self._device_end is not None:
            self.idle_ms += self._device_end.elapsed_time(start)
            self._spare.append(self._device_end)
        self._spare.append(start)
        self._device_end = end

    @property
    def idle_share(self) -> float | None:
        """The share of the time in which there was work and the device did none, 0 to 1; None before the first step."""
        total = self.device_ms + self.idle_ms
        return self.idle_ms / total if total else None

    def summary(self) -> dict[str, float | int | None]:
        """The figures that one would plot, by name; times in ms, per step where they say so."""
        per_step = max(self.steps, 1)
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            **{f"finished_{reason}": count for reason, count in sorted(self.finished.items())},
            "waiting": self.waiting,
            "running": self.running,
            "free_blocks": self.free_blocks,
            "shared_tokens": self.shared_tokens,
            "host_ms_per_step": self.host_ms / per_step,
            "device_ms_per_step": self.device_ms / per_step,
            "idle_share": self.idle_share,
            **_percentiles("first_token_ms", self.first_token_ms),
            **_percentiles("inter_token_ms", self.inter_token_ms),
        }


def _percentiles(name: str, values: Sequence[float]) -> dict[str, float | None]:
    """Median and 99th percentile, as part of a summary; None as long as there are no values."""
    shares = {"p50": 0.5, "p99": 0.99}
    return {f"{name}_{key}": percentile(values, share) if values else None for key, share in shares.items()}
