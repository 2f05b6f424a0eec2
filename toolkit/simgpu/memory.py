"""Device memory: blocks, who holds them, and their reuse, as PyTorch's caching allocator does it.

A tensor and all its views share one `Allocation`. When the last of them is gone *on the host*, the block goes back
to the stream on which it was allocated, and the next tensor of that stream and size gets it at once, although work that
still reads the block may be queued. Within one stream that is safe, since the new owner's work comes later in the
queue. A reader on another stream must have been announced by `tensor.record_stream(stream)`; then the block waits
for it.

Simplified: a block is reused for exactly its own size (rounded up to 512 bytes), never split or merged, and memory is
never short.
"""

import threading
import weakref

import torch

from toolkit.simgpu.blocks import Block, Footprint
from toolkit.simgpu.queues import Moment, Queue

_ROUND = 512


class Allocation:
    """The claim of a tensor (and its views) on a block; when it goes, the block is free.

    Attributes:
        nbytes: as many as were asked for; the block may have more.
    """

    __slots__ = ("_free_list", "_memory", "block", "nbytes", "stream", "streams")

    def __init__(self, block: Block, nbytes: int, memory: "Memory", free_list: list[Block], stream: Queue) -> None:
        self.block, self._memory, self._free_list, self.stream = block, memory, free_list, stream
        self.nbytes = nbytes
        self.streams: list[Queue] = []

    def __del__(self) -> None:
        self._memory.release(self.block, self._free_list, self.streams)


class Pool:
    """Free blocks by stream and size. Graphs have pools of their own, of which `scratch` stands for all the memory
    that a replay overwrites."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.free: dict[tuple[Queue, int], list[Block]] = {}
        self.blocks: set[Block] = set()  # of a graph's pool: all that it has ever given out
        self.scratch = Footprint(Block(1, "scratch"), torch.empty(1, dtype=torch.uint8, device="cpu"))


class Memory:
    """The caching allocator. Sizes are bytes, rounded up to 512."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # for the counters: tensors may die in any thread
        self.allocated = self.peak = 0
        self.reset()

    def reset(self) -> None:
        """Forget all cached blocks. Live tensors stay, and stay counted."""
        self.default_pool = Pool("device")
        self._pools = weakref.WeakSet([self.default_pool])
        self.peak = self.allocated

    def new_graph_pool(self) -> Pool:
        pool = Pool("graph pool")
        self._pools.add(pool)
        return pool

    @property
    def cached(self) -> int:
        """Bytes that are free and kept for reuse, those of the graphs' pools included."""
        return sum(len(blocks) * size for pool in self._pools for (_, size), blocks in pool.free.items())

    def allocate(self, nbytes: int, stream: Queue, pool: Pool, fill: int) -> Allocation:
        """A block for a new tensor on `stream`: a used one if there is one of that size, else a new one, filled."""
        asked, nbytes = nbytes, max(1, -(-nbytes // _ROUND)) * _ROUND
        free_list = pool.free.setdefault((stream, nbytes), [])
        block = next((each for each in reversed(free_list) if all(m.has_passed() for m in each.readers)), None)
        if block is None:
            block = Block(nbytes, pool.kind)
            block.data.fill_(fill)
            if pool is not self.default_pool:
                pool.blocks.add(block)
        else:
            free_list.remove(block)
            for moment in block.readers:
                _forget_before(moment, block)
            block.next_tensor()
        with self._lock:
            self.allocated += nbytes
            self.peak = max(self.peak, self.allocated)
        return Allocation(block, asked, self, free_list, stream)

    def release(self, block: Block, free_list: list[Block], streams: list[Queue]) -> None:
        block.free = True
        block.readers = [stream.moment() for stream in streams]
        with self._lock:
            self.allocated -= block.nbytes
        if not (streams and block.kind == "graph pool"):  # in a capture, memory for several streams is not used again
            free_list.append(block)


def _forget_before(moment: Moment, block: Block) -> None:
    """Drop the accesses that happened before a point in some stream's queue."""
    block.history = [each for each in block.history if moment.knows.get(each.actor, 0) < each.number]
