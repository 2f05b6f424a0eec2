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
from typing import TYPE_CHECKING

import torch

from toolkit.simgpu.byte_ranges import Region
from toolkit.simgpu.names import label

if TYPE_CHECKING:
    from toolkit.simgpu.races import Access
    from toolkit.simgpu.streams import Moment, Stream
    from toolkit.simgpu.unwritten import Unwritten

_ROUND = 512


class Block:
    """A piece of memory with a history of who touched it.

    Attributes:
        data: the bytes.
        kind: "device", "pinned", "graph pool", or "scratch" (see Pool).
        generation: how many tensors have owned it before.
        history: the accesses that a future operation could still race with.
        run: the run (see `reset`) that the history belongs to.
        readers: for each stream given to record_stream, the point its queue had reached when the block was freed.
        unwritten: what its tensor has not written yet; None if it has written everything.
        names, owner: see names.py; the names by their region's key.
    """

    __slots__ = (
        *("data", "free", "generation", "history", "kind", "names", "nbytes", "owner", "readers", "run"),
        "unwritten",
    )

    def __init__(self, nbytes: int, kind: str) -> None:
        with torch.inference_mode(False):  # operations may run after the learner has left inference mode
            self.data = torch.empty(nbytes, dtype=torch.uint8, device="cpu")
        self.nbytes, self.kind, self.generation, self.free = nbytes, kind, 0, False
        self.run = 0
        self.history: list[Access] = []
        self.readers: list[Moment] = []
        self.unwritten: Unwritten | None = None
        self.names: dict[tuple, tuple[Region, str]] = {}
        self.owner = ""

    def next_tensor(self) -> None:
        """The block changes hands."""
        self.generation += 1
        self.readers, self.free, self.unwritten = [], False, None
        self.names, self.owner = {}, ""

    def as_tensor(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """A plain CPU tensor over this block's bytes."""
        with torch.inference_mode(False):
            return torch.empty(0, dtype=dtype, device="cpu").set_(self.data.untyped_storage(), 0, shape, strides)


class Footprint:
    """What an operation touches: the bytes of one tensor, in a block, at a generation. Keeps no tensor alive."""

    __slots__ = ("block", "dtype", "generation", "region")

    def __init__(self, block: Block, tensor: torch.Tensor) -> None:
        self.block, self.generation, self.region = block, block.generation, Region(tensor)
        self.dtype = tensor.dtype

    @property
    def description(self) -> str:
        """The tensor's shape and dtype."""
        return f"{self.region.shape} {str(self.dtype).removeprefix('torch.')}"

    @property
    def label(self) -> str:
        """The tensor in words, by its name if it has one."""
        return label(self)

    @property
    def freed(self) -> bool:
        """The tensor is gone, whether or not another one has its memory."""
        return self.block.free or self.block.generation != self.generation


class Allocation:
    """The claim of a tensor (and its views) on a block; when it goes, the block is free."""

    __slots__ = ("_free_list", "_memory", "block", "stream", "streams")

    def __init__(self, block: Block, memory: "Memory", free_list: list[Block], stream: "Stream") -> None:
        self.block, self._memory, self._free_list, self.stream = block, memory, free_list, stream
        self.streams: list[Stream] = []

    def __del__(self) -> None:
        self._memory.release(self.block, self._free_list, self.streams)


class Pool:
    """Free blocks by stream and size. Graphs have pools of their own, of which `scratch` stands for all the memory
    that a replay overwrites."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.free: dict[tuple[Stream, int], list[Block]] = {}
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

    def allocate(self, nbytes: int, stream: "Stream", pool: Pool, fill: int) -> Allocation:
        """A block for a new tensor on `stream`: a used one if there is one of that size, else a new one, filled."""
        nbytes = max(1, -(-nbytes // _ROUND)) * _ROUND
        free_list = pool.free.setdefault((stream, nbytes), [])
        block = next((each for each in reversed(free_list) if all(m.has_passed() for m in each.readers)), None)
        if block is None:
            block = Block(nbytes, pool.kind)
            block.data.fill_(fill)
        else:
            free_list.remove(block)
            for moment in block.readers:
                moment.forget_in(block.history)
            block.next_tensor()
        with self._lock:
            self.allocated += nbytes
            self.peak = max(self.peak, self.allocated)
        return Allocation(block, self, free_list, stream)

    def release(self, block: Block, free_list: list[Block], streams: "list[Stream]") -> None:
        block.free = True
        block.readers = [stream.moment() for stream in streams]
        with self._lock:
            self.allocated -= block.nbytes
        free_list.append(block)
