"""Prefix sharing for blocks in arrays. The rules are those of chapter 8's PrefixBlockManager.

Python is left with what happens once in a block's life: it is named when it is full, found by its name, and loses it. A
request in decode fills a block every `block_size` steps.
"""

from hashlib import blake2b

import numpy as np

from ch09_persistent_batch.array_blocks import ArrayBlocks
from ch09_persistent_batch.seats import Array, SeatedRequest


class PrefixArrayBlocks(ArrayBlocks):
    """Hands out blocks, several times the same one if its content is shared.

    Attributes:
        owners: (num_blocks,) int32; in how many block tables each is.
        block_of, name_of, reusable, outdated: as in chapter 8.
        num_shared_tokens: tokens that were not computed because their block was there.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.block_of: dict[bytes, int] = {}
        self.name_of: dict[int, bytes] = {}
        self.num_shared_tokens = 0
        super().__init__(num_blocks, block_size)

    @property
    def num_free_blocks(self) -> int:
        return self.num_nameless + len(self.reusable)

    def take(self, count: int) -> Array:
        """As ever. When there are too few nameless blocks, the longest unused ones lose name and content."""
        while self.num_nameless < count and self.reusable:
            block = next(iter(self.reusable))
            del self.reusable[block]
            del self.block_of[self.name_of.pop(block)]
            super().give_back(np.array([block], np.int32))
        blocks = super().take(count)
        self.owners[blocks] = 1
        if self.outdated:
            self.outdated.difference_update(blocks.tolist())
        return blocks

    def give_back(self, blocks: Array) -> None:
        """Those that others own stay theirs, named ones keep their content; the sequence's end is given back first."""
        blocks = blocks[::-1]
        self.owners[blocks] -= 1
        unowned = blocks[self.owners[blocks] == 0]
        named = np.fromiter((block in self.name_of for block in unowned.tolist()), np.bool_, len(unowned))
        self.reusable |= dict.fromkeys(unowned[named].tolist())
        super().give_back(unowned[~named])

    def block_names(self, request: SeatedRequest, tokens: Array, count: int) -> list[bytes]:
        """The names of the first `count` blocks of a request, whose tokens are given."""
        names, size = request.names, self.block_size
        for i in range(len(names), count):
            before = names[-1] if names else b""
            names.append(blake2b(before + tokens[i * size : (i + 1) * size].tobytes(), digest_size=16).digest())
        return names[:count]

    def share(self, request: SeatedRequest, tokens: Array) -> list[int]:
        """The blocks in which the first of these tokens lie already, with one owner more each.

        As many as are known without a gap, but the last token is left to compute.
        """
        blocks: list[int] = []
        for name in self.block_names(request, tokens, (len(tokens) - 1) // self.block_size):
            block = self.block_of.get(name)
            if block is None:
                break
            self.owners[block] += 1
            self.reusable.pop(block, None)
            blocks.append(block)
        return blocks

    def mark_written(self, request: SeatedRequest, tokens: Array, table: Array, first: int) -> None:
        """Blocks of a request from number `first` on are full, and written: name those whose content is new.

        Args:
            tokens: of all full blocks.
            table: the full blocks, in order of position.
        """
        if self.outdated and not self.outdated.isdisjoint(table.tolist()):
            return
        names = self.block_names(request, tokens, len(table))
        for block, name in zip(table[first:].tolist(), names[first:], strict=True):
            if name not in self.block_of:
                self.block_of[name] = block
                self.name_of[block] = name

    def take_all_back(self) -> None:
        """As in chapter 8: named blocks keep their content."""
        super().take_all_back()
        self.owners = np.zeros(self.num_blocks, np.int32)
        self.outdated: set[int] = set()
        self.name_of = {block: name for name, block in self.block_of.items()}
        self.reusable: dict[int, None] = dict.fromkeys(self.name_of)
        nameless = [block for block in range(self.num_blocks) if block not in self.reusable]
        self.stack[: len(nameless)] = nameless
        self.num_nameless = len(nameless)

    def forget(self) -> None:
        """Take all names away, see chapter 8."""
        self.outdated = {*self.owners.nonzero()[0].tolist()}
        unowned, self.reusable = self.reusable, {}
        super().give_back(np.array([*unowned], np.int32))
        self.block_of.clear()
        self.name_of.clear()
