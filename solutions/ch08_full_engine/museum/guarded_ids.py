"""No id is trusted: the device checks every one that was sampled, and the host refuses a batch with a bad one.

The verdicts, one per row, come home with the ids: computed behind the forward, copied out on the d2h stream. The host
compares no ids; it reads verdicts.

A true story: vLLM copied the numbers of accepted draft tokens to pinned memory without waiting, and read them in the
next step. It showed under asynchronous scheduling, where nothing else happens to wait in between.
https://github.com/vllm-project/vllm/pull/36013
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from ch02_continuous_batching import Batch, Observers
from ch03_streams import BufferPool, IOBuffers
from ch04_events import EventExecutor
from ch05_double_buffering import PipelinedEngine
from ch08_full_engine.museum.build import async_engine
from toolkit.device import DEVICE, accelerator
from toolkit.forward import Forward


class GuardedExecutor(EventExecutor):
    """Chapter 4's executor, with a check of the sampled ids.

    Attributes:
        vocabulary: an id is valid below this.
        device_valid, host_valid: for each of the IO buffers, (rows,) bool: whether the row's id is valid.
    """

    def __init__(self, pool: BufferPool, forward: Forward, observers: Observers, vocabulary: int) -> None:
        super().__init__(pool, forward, observers)
        self.vocabulary = vocabulary
        self.device_valid = {
            buffers: torch.zeros(buffers.device_ids.shape, dtype=torch.bool, device=DEVICE) for buffers in pool.buffers
        }
        self.host_valid = {
            buffers: torch.zeros(buffers.device_ids.shape, dtype=torch.bool, device="cpu", pin_memory=True)
            for buffers in pool.buffers
        }
        accelerator.synchronize()

    def run(self, batch: Batch, buffers: IOBuffers) -> None:
        super().run(batch, buffers)
        self.device_valid[buffers].copy_(buffers.device_ids < self.vocabulary)

    def queue(self, batch: Batch, buffers: IOBuffers) -> None:
        super().queue(batch, buffers)
        with accelerator.stream(self.d2h):
            self.host_valid[buffers].copy_(self.device_valid[buffers], non_blocking=True)
            # BEGIN SOLUTION 8.7
            # BUG
            buffers.d2h_done.record()  # again: the event is now behind this copy, too
            # END SOLUTION

    def wait(self, batch: Batch, buffers: IOBuffers) -> Sequence[int]:
        token_ids = super().wait(batch, buffers)
        if not all(self.host_valid[buffers][: len(token_ids)].tolist()):
            raise RuntimeError(f"step {batch.step}: the device sampled an id that is not in the vocabulary")
        return token_ids


def build(model: PreTrainedModel, *arguments: Any, **limits: Any) -> PipelinedEngine:  # noqa: ANN401
    """Chapter 7's engine with this executor. Arguments are those of async_engine."""
    vocabulary: int = model.config.vocab_size

    def executor(pool: BufferPool, forward: Forward, observers: Observers) -> GuardedExecutor:
        return GuardedExecutor(pool, forward, observers, vocabulary)

    return async_engine(model, *arguments, executor=executor, **limits)
