"""An engine that knows how long contexts get: one number for a dashboard, brought up to date with every batch.

A true story: vLLM's asynchronous scheduling was slowed down again and again by single lines that nobody had noticed.
In 2026 the project removed them in a series of changes, and made its tests fail where a new one creeps in.
https://github.com/vllm-project/vllm/pull/41429 and https://github.com/vllm-project/vllm/pull/43107
"""

from transformers import PreTrainedModel

from ch02_continuous_batching import Batch
from ch03_streams import IOSlot
from ch07_carry_over import AsyncEngine


class MeteredEngine(AsyncEngine):
    """The asynchronous engine, with a meter.

    Attributes:
        longest_context: tokens of the longest row that was ever in a batch.
    """

    def set_up_device(self, model: PreTrainedModel) -> None:
        super().set_up_device(model)
        self.longest_context = 0

    def run_forward(self, batch: Batch, slot: IOSlot) -> None:
        super().run_forward(batch, slot)
        longest = slot.device_inputs["kv_lengths"].max().item()
        self.longest_context = max(self.longest_context, int(longest))
