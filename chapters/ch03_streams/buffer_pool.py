"""The IO buffers of an executor, and which of them a batch goes through."""

from collections.abc import Sequence

from ch02_continuous_batching.batch import Batch
from ch03_streams.io_buffers import IOBuffers


class BufferPool:
    """Holds the IO buffers. With one batch at a time, one of them is enough; chapter 5 has two."""

    def __init__(self, buffers: Sequence[IOBuffers]) -> None:
        self.buffers = buffers

    def buffers_for(self, batch: Batch) -> IOBuffers:
        """The buffers for a new batch. Asked once for each batch."""
        return self.buffers[0]
