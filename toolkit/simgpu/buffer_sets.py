"""Which pieces of memory belong together: the IO buffers of one batch, told apart from those of another.

What named tensors belong to changes: the buffers of batch 0 become those of batch 2. The memory stays the same, and a
timeline shows which it is. Tensors that got their first names for one owner are a set, and stay one under later
owners. A set with a part in pinned host memory is one of IO buffers; others, such as a KV cache, get no number.
"""

import itertools
from collections.abc import Sequence

from toolkit.simgpu.blocks import Block, Footprint
from toolkit.simgpu.clock import Touched
from toolkit.simgpu.names import in_words


class BufferSets:
    """The sets of one run."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self._of_owner: dict[str, int] = {}
        self._with_host_side: set[int] = set()

    def join(self, block: Block, owner: str) -> None:
        """The block belongs to `owner` from now on; if it is in no set yet, it joins the one that `owner` has."""
        if block.set is None:
            known = self._of_owner.get(owner)
            block.set = next(self._numbers) if known is None else known
        self._of_owner[owner] = block.set
        if block.kind == "pinned":
            self._with_host_side.add(block.set)

    def touched(self, reads: Sequence[Footprint], writes: Sequence[Footprint]) -> Touched:
        """What an operation that reads and writes this memory touches."""
        texts = in_words(reads), in_words(writes)
        for each in (*writes, *reads):
            if each.block.set in self._with_host_side and not each.freed:
                return Touched(*texts, each.block.owner, each.block.set)
        return Touched(*texts)
