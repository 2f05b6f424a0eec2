"""A piece of memory, what an operation touches of it, and who has touched it.

A block outlives the tensors that own it one after the other; a footprint says of which of them it is.
"""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from toolkit.simgpu.byte_ranges import Region
from toolkit.simgpu.errors import Party
from toolkit.simgpu.known_bytes import KnownBytes
from toolkit.simgpu.ordering import Actor
from toolkit.simgpu.queues import Moment
from toolkit.simgpu.unwritten import Unwritten


class Block:
    """A piece of memory with a history of who touched it.

    Attributes:
        data: the bytes.
        kind: "device", "pinned", "graph pool", or "scratch" (see Pool).
        generation: how many tensors have owned it before.
        history: the accesses that a future operation could still race with.
        run: the run (see `reset`) that the history belongs to.
        readers: for each stream given to record_stream, the point its queue had reached when the block was freed.
        known: what the host knows of its values, see known_values.py.
        unwritten: what its tensor has not written yet; None if it has written everything.
        names, owner: see names.py; the names by their region's key.
        set: the number of the set that it belongs to, see buffer_sets.py; None before it was named.
    """

    __slots__ = (
        *("data", "free", "generation", "history", "kind", "known", "names", "nbytes", "owner", "readers", "run"),
        *("set", "unwritten"),
    )

    def __init__(self, nbytes: int, kind: str) -> None:
        with torch.inference_mode(False):  # operations may run after the learner has left inference mode
            self.data = torch.empty(nbytes, dtype=torch.uint8, device="cpu")
        self.nbytes, self.kind, self.generation, self.free = nbytes, kind, 0, False
        self.run = 0
        self.history: list[Access] = []
        self.readers: list[Moment] = []
        self.unwritten: Unwritten | None = None
        self.known: KnownBytes | None = None
        self.names: dict[tuple, tuple[Region, str]] = {}
        self.owner = ""
        self.set: int | None = None

    def next_tensor(self) -> None:
        """The block changes hands."""
        self.generation += 1
        self.readers, self.free, self.unwritten, self.known = [], False, None, None
        self.names, self.owner, self.set = {}, "", None

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

    def narrowed(self, region: Region) -> "Footprint":
        """The same tensor, of which only `region` is touched."""
        part = copy.copy(self)
        part.region = region
        return part

    @property
    def description(self) -> str:
        """The tensor's shape and dtype."""
        return f"{self.region.shape} {str(self.dtype).removeprefix('torch.')}"

    @property
    def freed(self) -> bool:
        """The tensor is gone, whether or not another one has its memory."""
        return self.block.free or self.block.generation != self.generation


class Access(NamedTuple):
    """One read or write by a stream. The host's own are not kept: whatever comes later is launched after them.

    Attributes:
        number: of the actor's operation.
        when: the operation's place in the program.
        owner: what the memory belonged to then (see names.py).
    """

    footprint: Footprint
    actor: Actor
    number: int
    party: Party
    when: int
    owner: str


def forget(writes: Sequence[Footprint]) -> None:
    """Something is about to be written there: what the host knew of it is over."""
    for each in writes:
        if each.block.known is not None:
            for piece in each.region.pieces_in(each.block.known.mask):
                piece.fill_(False)


def fill_unwritten(
    reads: Sequence[Footprint],
    writes: Sequence[Footprint],
    work: Callable[[], object],
    is_in_use: Callable[[Footprint], bool],
) -> Callable[[], object]:
    """`work`, preceded by filling what it touches and its tensors have not written yet."""
    fills = []
    for each in reads:
        unwritten = each.block.unwritten
        if unwritten is not None and not each.freed and not is_in_use(each):
            fills.append(unwritten.fill(each.region))
    for each in writes:
        unwritten = each.block.unwritten
        if unwritten is not None and not each.freed:
            fills.append(unwritten.fill(each.region))
            if unwritten.is_complete_with(each.region):
                each.block.unwritten = None
    if not fills:
        return work

    def fill_and_work() -> None:
        for fill in fills:
            fill()
        work()

    return fill_and_work
