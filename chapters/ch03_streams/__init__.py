"""Chapter 3, streams: copies and compute get a queue each. Fast, and wrong, until chapter 4.

Read in this order: io_buffers, buffer_pool, stream_executor, host_prices, build.
"""

from ch03_streams.buffer_pool import BufferPool
from ch03_streams.host_prices import HostPrices
from ch03_streams.io_buffers import BufferSizes, IOBuffers, padding
from ch03_streams.stream_executor import StreamExecutor, allocate_cache, model_step

__all__ = [
    "BufferPool",
    "BufferSizes",
    "HostPrices",
    "IOBuffers",
    "StreamExecutor",
    "allocate_cache",
    "model_step",
    "padding",
]
