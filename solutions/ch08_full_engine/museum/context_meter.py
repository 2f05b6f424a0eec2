"""An engine that knows how long contexts get: one number for a dashboard, brought up to date with every batch.

A true story: vLLM's asynchronous scheduling was slowed down again and again by single lines that had gone unnoticed.
In 2026 the project removed them in a series of changes, and made its tests fail where a new one creeps in.
https://github.com/vllm-project/vllm/pull/41429 and https://github.com/vllm-project/vllm/pull/43107
"""

from functools import partial

from ch02_continuous_batching import Batch
from ch03_streams import IOBuffers
from ch04_events import EventExecutor
from ch08_full_engine.museum.build import async_engine


class MeteredExecutor(EventExecutor):
    """Chapter 4's executor, with a meter.

    Attributes:
        longest_context: tokens of the longest row that was ever in a batch.
    """

    longest_context = 0

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        super().run(batch, buffers)
        # BEGIN SOLUTION 8.8
        # BUG longest = buffers.device_inputs["seq_lens"].max().item()
        longest = batch.inputs.seq_lens.max().item()  # the host has packed them: it need not ask the device
        # END SOLUTION
        self.longest_context = max(self.longest_context, int(longest))


build = partial(async_engine, executor=MeteredExecutor)
