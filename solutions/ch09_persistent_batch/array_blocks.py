"""The blocks of the KV cache for many requests at once: free ones in an array, owners counted in another.

The blocks of a request are listed in its row of `Seats.tables`; here is only who has any claim to each block.
"""

from collections import deque

import numpy as np

from ch02_continuous_batching import BlockManager
from ch09_persistent_batch.seats import Array, SeatedRequest


class ArrayBlocks(BlockManager):
    """Hands out blocks by the array and takes them back. Takes the place of chapter 2's BlockManager.

    Attributes:
        stack: (num_blocks,) int32; the first `num_nameless` are free blocks, and the last of them is the next to go.
        num_nameless: free blocks without a name, so that no request can share their content. All, in this class.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self.take_all_back()

    @property
    def free_blocks(self) -> deque[int]:  # type: ignore[override]
        """The nameless free blocks one by one, for who wants to look at them."""
        return deque(self.stack[: self.num_nameless].tolist())

    @property
    def num_free_blocks(self) -> int:
        return self.num_nameless

    def missing(self, lengths: Array, owned: Array) -> Array:
        """How many blocks more are needed for so many positions, where so many are owned already. (rows,) int64."""
        return (lengths + (self.block_size - 1)) // self.block_size - owned

    def take(self, count: int) -> Array:
        """So many blocks, (count,) int32, which are free no more.

        Raises:
            RuntimeError: so many are not free.
        """
        if count > self.num_nameless:
            raise RuntimeError(f"too few blocks: asked for {count}, {self.num_free_blocks} free")
        self.num_nameless -= count
        return self.stack[self.num_nameless : self.num_nameless + count].copy()

    def give_back(self, blocks: Array) -> None:
        """Take back the blocks of one request, given in order of position."""
        self.stack[self.num_nameless : self.num_nameless + len(blocks)] = blocks
        self.num_nameless += len(blocks)

    def share(self, request: SeatedRequest, tokens: Array) -> list[int]:
        """Blocks in which the first of these tokens lie already. None here; see PrefixArrayBlocks."""
        return []

    def take_all_back(self) -> None:
        self.stack = np.arange(self.num_blocks, dtype=np.int32)
        self.num_nameless = self.num_blocks
