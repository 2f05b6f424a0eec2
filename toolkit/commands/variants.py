"""Chapter 5's engine with other numbers: of batches in flight, and of sets of IO buffers. Its lesson tries them.

This file solves exercises 5.2 and 5.3, so solve them before you read on. (A learner's ring and loop need not know what
to do with one set of IO buffers, or with three; these do.)
"""

from collections.abc import Callable, Sequence
from typing import Any

from ch02_continuous_batching import Batch, Parts, RequestOutput
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch05_double_buffering.pipelined_engine import PipelinedEngine
from toolkit.device import DEVICE


class AnyRing(BufferPool):
    """As many sets of IO buffers as there are, in turns."""

    def buffers_for(self, batch: Batch) -> IOBuffers:
        """The set that was given out longest ago."""
        return self.buffers[batch.step % len(self.buffers)]


class AnyLoop(PipelinedEngine):
    """As many batches in flight as `max_in_flight` says."""

    def advance(self) -> Sequence[RequestOutput]:
        """Launch the next batch, if there is one; commit the oldest if so many are in flight, or nothing could run."""
        batch = self.prepare()
        if batch is not None:
            self.in_flight.append((batch, self.executor.launch(batch)))
        if len(self.in_flight) == self.max_in_flight or (batch is None and self.in_flight):
            return self.commit(*self.in_flight.popleft())
        return []


def variant(build: Callable[..., PipelinedEngine], in_flight: int, sets: int) -> Callable[..., AnyLoop]:
    """What `build` makes, but with so many batches in flight and so many sets of IO buffers."""

    def build_variant(*args: Any, **kwargs: Any) -> AnyLoop:  # noqa: ANN401 (those of `build`)
        given = build(*args, **kwargs)
        assert isinstance(given.executor, EventExecutor)
        padding = given.executor.pool.buffers[0].padding
        ring = AnyRing([IOBuffers(padding, DEVICE) for _ in range(sets)])
        executor = EventExecutor(ring, given.executor.forward, given.observers)
        parts = Parts(given.entrance, given.scheduler, given.packer, executor, given.book, given.observers)
        return AnyLoop(parts, max_in_flight=in_flight)

    return build_variant
