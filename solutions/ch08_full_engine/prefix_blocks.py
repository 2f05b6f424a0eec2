"""Prefix sharing: requests that begin with the same tokens share the blocks in which these tokens' keys and values lie.

A key or a value depends on its token and on all tokens before it, and on nothing else. So a full block can be named by
a hash of its tokens and of the block before it (a chain), and a request whose own chain begins with known names can
take these blocks as they are, instead of computing them again.

A block gets its name when a step that filled it was *committed*, not when it was scheduled: only then are the keys and
values certainly written. A row that runs one step too far writes into a block that is not full, so never into a named
one. Blocks without an owner keep their content and their name as long as there are others to hand out.

Idea: Zheng et al., "SGLang: Efficient Execution of Structured Language Model Programs" (RadixAttention), NeurIPS 2024;
naming by a chain of hashes is vLLM's "automatic prefix caching".
"""

from array import array
from collections import Counter, deque
from collections.abc import Sequence
from hashlib import blake2b
from weakref import WeakKeyDictionary

from ch02_continuous_batching import BlockManager, Request, Row
from ch07_carry_over import CarryScheduler


class PrefixBlockManager(BlockManager):
    """Hands out blocks, several times the same one if its content is shared.

    Attributes:
        owners: for each block, in how many block tables it stands.
        block_of: name of a full block -> the block.
        name_of: the same the other way round.
        reusable: named blocks without an owner, the longest unused one first. `free_blocks` holds the nameless ones.
        names: for each request that lives, the names of its full blocks, as far as they were needed. They stay right
            when it loses its blocks: tokens are only ever added.
        num_shared_tokens: tokens that were not computed because their block was there.
        outdated: blocks that had an owner when all names were forgotten. A request that owns one goes on, but what it
            computes from now on is no other's either, since it follows from what is in that block.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        super().__init__(num_blocks, block_size)
        self.owners: Counter[int] = Counter()
        self.block_of: dict[bytes, int] = {}
        self.name_of: dict[int, bytes] = {}
        self.reusable: dict[int, None] = {}  # a dict, for its order and for quick removal
        self.names: WeakKeyDictionary[Request, list[bytes]] = WeakKeyDictionary()
        self.num_shared_tokens = 0
        self.outdated: set[int] = set()

    @property
    def num_free_blocks(self) -> int:
        return len(self.free_blocks) + len(self.reusable)

    def block_names(self, request: Request, count: int) -> list[bytes]:
        """The names of the first `count` blocks of a request; all their tokens must be known to the host."""
        names = self.names.setdefault(request, [])
        for i in range(len(names), count):
            tokens = array("q", request.token_ids(i * self.block_size, (i + 1) * self.block_size))
            before = names[-1] if names else b""
            names.append(blake2b(before + tokens.tobytes(), digest_size=16).digest())
        return names[:count]

    def share_prefix(self, request: Request) -> None:
        """Give a request that owns nothing the blocks in which its first tokens lie already.

        As many as are known without a gap, but its last token is left to compute: there must be something to sample
        from. Each gets one owner more, and is not reusable as long as it has one. The request's `block_table` and
        `num_computed_tokens` say what it has got.
        """
        # BEGIN SOLUTION 8.1
        for name in self.block_names(request, (request.num_tokens - 1) // self.block_size):
            block = self.block_of.get(name)
            if block is None:
                break
            self.owners[block] += 1
            self.reusable.pop(block, None)
            request.block_table.append(block)
        request.num_computed_tokens = len(request.block_table) * self.block_size
        # END SOLUTION

    def allocate(self, request: Request, num_tokens: int) -> None:
        """As in chapter 2. When there are too few nameless blocks, the longest unused ones lose name and content."""
        missing = self.num_missing_blocks(request, num_tokens)
        if missing == 0:  # as in nearly every row of a decode step
            return
        if missing <= self.num_free_blocks:
            while len(self.free_blocks) < missing:
                block = next(iter(self.reusable))
                del self.reusable[block]
                del self.block_of[self.name_of.pop(block)]
                self.free_blocks.append(block)
        super().allocate(request, num_tokens)
        for block in request.block_table[len(request.block_table) - missing :]:
            self.owners[block] = 1
            self.outdated.discard(block)

    def mark_written(self, row: Row) -> None:
        """A row was committed: name the blocks that it filled, unless the same content has a block already."""
        if self.outdated and not self.outdated.isdisjoint(row.request.block_table):
            return
        # BEGIN SOLUTION 8.1
        first, end = row.start // self.block_size, (row.start + row.num_tokens) // self.block_size
        if first == end:
            return
        names = self.block_names(row.request, end)
        for i in range(first, end):
            block = row.request.block_table[i]
            if names[i] not in self.block_of:
                self.block_of[names[i]] = block
                self.name_of[block] = names[i]
        # END SOLUTION

    def free(self, request: Request) -> None:
        """Take back a request's blocks; those that others own stay theirs, named ones keep their content.

        The end of the sequence is given back first: its beginning is what others are more likely to ask for.
        """
        # BEGIN SOLUTION 8.1
        for block in reversed(request.block_table):
            self.owners[block] -= 1
            if self.owners[block] > 0:
                continue
            if block in self.name_of:
                self.reusable[block] = None
            else:
                self.free_blocks.append(block)
        # END SOLUTION
        request.block_table.clear()

    def take_all_back(self) -> None:
        """As in chapter 2. Named blocks keep their content: they were named when it was certainly written."""
        self.owners.clear()
        self.outdated.clear()
        self.name_of = {block: name for name, block in self.block_of.items()}
        self.reusable = dict.fromkeys(self.name_of)
        self.free_blocks = deque(block for block in range(self.num_blocks) if block not in self.reusable)

    def forget(self) -> None:
        """Take all names away: from now on no request gets a block that was written before.

        A name stands for tokens, and the same tokens give the same keys and values only with the same weights. Blocks
        without an owner become ordinary free ones. Those with owners stay theirs, and neither they nor what the owners
        still write, in flight or later, gets a name: the keys follow from the old ones. A request that was preempted
        computes everything again, so its blocks are named as ever.
        """
        self.outdated = {block for block, owners in self.owners.items() if owners > 0}
        self.free_blocks.extend(self.reusable)
        self.reusable.clear()
        self.block_of.clear()
        self.name_of.clear()


class PrefixScheduler(CarryScheduler):
    """Chapter 7's scheduler; a request is let in with the blocks that are there already."""

    blocks: PrefixBlockManager

    def written(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if row.epoch == row.request.epoch:
                self.blocks.mark_written(row)

    def _admit(self, request: Request, rows: list[Row]) -> bool:
        self.blocks.share_prefix(request)
        shared = request.num_computed_tokens
        if not super()._admit(request, rows):
            self.blocks.free(request)  # a waiting request owns nothing
            request.num_computed_tokens = 0
            return False
        self.blocks.num_shared_tokens += shared
        return True
