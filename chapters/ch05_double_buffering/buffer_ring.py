"""IO buffers for two batches in flight, used in turns.

Buffers must not be rewritten before the copies of the batch that used them last are through. Batch N + 2 goes through
the buffers of batch N, and is launched after batch N was committed, behind its d2h_done.
"""

from ch02_continuous_batching import Batch
from ch03_streams import BufferPool, IOBuffers


class BufferRing(BufferPool):
    """IO buffers for as many batches as may be in flight."""

    def buffers_for(self, batch: Batch) -> IOBuffers:
        """The buffers for a new batch, one of `self.buffers`: those that no batch in flight uses.

        Called once for each batch, in the order in which they are launched; `batch.step` counts them from 0. One of the
        buffers is always free then: the batches in flight are fewer than `self.buffers`, and they are the latest ones.
        """
        raise NotImplementedError("ch05 exercise 2: Buffers that no batch uses")
