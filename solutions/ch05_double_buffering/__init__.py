"""Chapter 5, double buffering: while the device computes one batch, the host prepares the other.

Read in this order: half_batches, buffer_ring, pipelined_engine, build; forecast is what the lesson ends with.
"""

from ch05_double_buffering.buffer_ring import BufferRing
from ch05_double_buffering.half_batches import HalfBatchScheduler
from ch05_double_buffering.pipelined_engine import PipelinedEngine

__all__ = ["BufferRing", "HalfBatchScheduler", "PipelinedEngine"]
