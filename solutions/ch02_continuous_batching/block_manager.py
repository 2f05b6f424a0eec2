"""Who owns which block of the KV cache.

The cache is one pool of equally sized blocks, `block_size` token positions each. A request owns as many as its tokens
need, in any order and place; its `block_table` lists them. So at most block_size - 1 positions of a request lie idle,
where a padded cache reserves the longest possible length for every request.

This is bookkeeping on the host: no tensor is touched here, and freeing a block erases nothing.
"""

from collections import deque

from ch02_continuous_batching.request import Request


class BlockManager:
    """Hands out the blocks of the KV cache and takes them back.

    Attributes:
        free_blocks: numbers of the blocks that no request owns; taken from the left, given back on the right.
        num_shared_tokens: tokens that were not computed because their block was there; none before chapter 8.
    """

    num_shared_tokens = 0

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free_blocks: deque[int] = deque(range(num_blocks))

    @property
    def num_free_blocks(self) -> int:
        return len(self.free_blocks)

    def blocks_for(self, num_tokens: int) -> int:
        """Number of blocks that hold `num_tokens` token positions."""
        return -(-num_tokens // self.block_size)  # rounded up

    def num_missing_blocks(self, request: Request, num_tokens: int) -> int:
        """How many more blocks `request` needs to hold its first `num_tokens` positions (0 or more)."""
        # BEGIN SOLUTION 2.1
        return max(self.blocks_for(num_tokens) - len(request.block_table), 0)
        # END SOLUTION

    def can_allocate(self, request: Request, num_tokens: int) -> bool:
        """Whether `allocate` with the same arguments would succeed."""
        return self.num_missing_blocks(request, num_tokens) <= self.num_free_blocks

    def allocate(self, request: Request, num_tokens: int) -> None:
        """Extend `request.block_table` so that it holds the request's first `num_tokens` positions.

        Blocks that the request owns already are kept, in their order: they hold keys and values. New ones are taken
        from the left of `free_blocks` and appended.

        Raises:
            RuntimeError: too few free blocks; nothing was changed then.
        """
        # BEGIN SOLUTION 2.1
        if not self.can_allocate(request, num_tokens):
            raise RuntimeError(
                f"request {request.request_id} needs more blocks than the {self.num_free_blocks} free ones"
            )
        for _ in range(self.num_missing_blocks(request, num_tokens)):
            request.block_table.append(self.free_blocks.popleft())
        # END SOLUTION

    def free(self, request: Request) -> None:
        """Take back all blocks of `request` and leave its block table empty. Freeing twice changes nothing."""
        # BEGIN SOLUTION 2.1
        self.free_blocks.extend(request.block_table)
        request.block_table.clear()
        # END SOLUTION

    def forget(self) -> None:
        """From now on no request gets a block as it was written. None does, before chapter 8."""

    def take_all_back(self) -> None:
        """Every block is free again, whichever request owned it."""
        self.free_blocks = deque(range(self.num_blocks))

    def slot(self, request: Request, position: int) -> int:
        """Where token `position` is in the cache, counted in positions from block 0: block * block_size + offset."""
        block = request.block_table[position // self.block_size]
        return block * self.block_size + position % self.block_size
