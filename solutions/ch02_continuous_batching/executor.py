"""The device's side of a step.

An executor is given batches and gives back sampled ids. `launch` puts a batch on the device and returns a *handle*, by
which `wait` finds its ids later. What the handle is, is the executor's own matter: here it is the tensor of the ids.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from torch import Tensor
from transformers import PreTrainedModel

from ch02_continuous_batching.batch import Batch
from ch02_continuous_batching.compute import run_model
from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.observers import Observers
from toolkit.paged_attention import PagedKVCache, use_paged_attention

Handle = TypeVar("Handle")


class Executor(Protocol[Handle]):
    """What runs batches on a device; the engine knows no more of it."""

    def launch(self, batch: Batch) -> Handle:
        """Put a batch on the device."""
        ...

    def wait(self, batch: Batch, handle: Handle, /) -> Sequence[int]:
        """Wait for a launched batch; its sampled ids, one for each of its `sampling_rows`."""
        ...

    def drain(self) -> None:
        """Wait until nothing is queued on the device any more. Raises nothing."""
        ...


class DirectExecutor:
    """Copies the inputs to the device and calls the model, one kernel after the other, on the default stream.

    Args:
        model: switched to paged attention; its code is the library's.

    Attributes:
        cache: the pool of KV blocks, on the model's device.
    """

    def __init__(self, model: PreTrainedModel, config: EngineConfig, observers: Observers) -> None:
        use_paged_attention(model)
        self.model, self.observers = model, observers
        self.cache = PagedKVCache.allocate(model, config.num_blocks, config.block_size)

    def launch(self, batch: Batch) -> Tensor:
        """Inputs in, forward. Returns the sampled ids on the device, (samples,) int64."""
        with self.observers.host("launch", step=batch.step):
            with self.observers.device("copy in", lane="h2d", step=batch.step):
                inputs = batch.inputs.to(self.model.device)
            with self.observers.device("forward", step=batch.step):
                return run_model(self.model, inputs, self.cache)

    def wait(self, batch: Batch, ids: Tensor) -> list[int]:
        token_ids: list[int] = ids.tolist()  # blocks until the device is done
        return token_ids

    def drain(self) -> None:
        """On one stream, whatever is still queued comes before all that is queued later: there is no need to wait."""
