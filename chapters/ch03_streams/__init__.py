"""Chapter 3, streams: copies and compute get a queue each. Fast, and wrong, until chapter 4.

Read in this order: io_slot, stream_engine.
"""

from ch03_streams.io_slot import IOSlot
from ch03_streams.stream_engine import StreamEngine

__all__ = ["IOSlot", "StreamEngine"]
