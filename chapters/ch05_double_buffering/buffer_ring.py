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

        Called once for each batch, in the order in which they are launched; `batch.step` counts them from 0. At that
        moment at least one of the buffers is free: of n buffers, the last n - 1 batches use n - 1 at most.
        """
        raise NotImplementedError("ch05 exercise 2: Buffers that no batch uses")
