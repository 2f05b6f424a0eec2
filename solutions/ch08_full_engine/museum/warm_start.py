"""A warm start: the first step launches two batches, so that the device is never without work from then on.

A true story: the asynchronous continuous batching of transformers prepared its first batch as soon as its thread ran.
Whether it came up depended on a race with the first request (reported in August 2026).
https://github.com/huggingface/transformers/issues/48303
"""

from collections.abc import Sequence
from functools import partial

from ch02_continuous_batching import RequestOutput
from ch05_double_buffering import PipelinedEngine
from ch08_full_engine.museum.build import async_engine


class WarmStartEngine(PipelinedEngine):
    """Chapter 5's engine, which always fills both IO buffers before it commits."""

    def advance(self) -> Sequence[RequestOutput]:
        """Launch batches until `max_in_flight` are in flight, then commit the oldest.

        Returns:
            what the committed batch brought; nothing if there was nothing to do.
        """
        while len(self.in_flight) < self.max_in_flight:
            batch = self.prepare()
            # BEGIN SOLUTION 8.16
            # BUG
            if batch is None:
                break
            # END SOLUTION
            self.in_flight.append((batch, self.executor.launch(batch)))
        # BEGIN SOLUTION 8.16
        # BUG
        if not self.in_flight:
            return []
        # END SOLUTION
        return self.commit(*self.in_flight.popleft())


build = partial(async_engine, engine=WarmStartEngine)
