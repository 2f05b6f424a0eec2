"""Keys and values outlive their request: they are copied to the host, for the next turn of the conversation.

When a request ends, its blocks go back to the pool at once. Their content is copied out on a stream of its own, behind
the forwards that wrote it, so that neither host nor requests have to wait.

A true story: vLLM's offloading connector assumes that blocks with a transfer in flight are not given to a new request.
In 2026 it was reported that, combined with another connector, they may be, and that the copy is then not what it was
thought to be.
https://github.com/vllm-project/vllm/issues/46951
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ch02_continuous_batching import Batch, Parts, RequestOutput, RequestStatus
from ch03_streams import IOBuffers
from ch04_events import EventExecutor
from ch05_double_buffering import PipelinedEngine
from ch08_full_engine.museum.build import async_engine
from toolkit.device import accelerator, new_stream


class ArchiveEngine(PipelinedEngine):
    """Chapter 5's engine, with an archive.

    Attributes:
        saving: the stream of the copies.
        archive: request id -> its blocks' keys and values, (blocks, 2, layers, block_size, kv_heads, head_dim), pinned
            on the host; complete once `saving` has been synchronised.
    """

    executor: EventExecutor

    def __init__(self, parts: Parts[IOBuffers]) -> None:
        super().__init__(parts)
        self.saving = new_stream("saving")
        self.archive: dict[str, Tensor] = {}

    def commit(self, batch: Batch, buffers: IOBuffers) -> Sequence[RequestOutput]:
        tables = [(row.request, list(row.request.block_table)) for row in batch.rows]  # finishing empties them
        outputs = super().commit(batch, buffers)
        for request, blocks in tables:
            if request.status is RequestStatus.FINISHED and blocks:
                self.archive[request.request_id] = self.save(blocks)
        return outputs

    def save(self, blocks: list[int]) -> Tensor:
        """Queue the copy of some blocks to the host."""
        storage = self.executor.forward.storage
        self.saving.wait_stream(self.executor.compute)
        with accelerator.stream(self.saving):
            kept = torch.stack([storage[:, :, block] for block in blocks]).to("cpu", non_blocking=True)
        return kept


build = partial(async_engine, engine=ArchiveEngine)
