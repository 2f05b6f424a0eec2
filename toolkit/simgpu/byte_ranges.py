"""Which bytes of a memory block a tensor covers, and whether two tensors share a byte: exact for strided views.

Two halves of a matrix's columns lie interleaved in memory, with the same first-to-last range nearly, and still share
nothing. numpy's `shares_memory` decides such questions exactly; here it is asked about addresses only, no data is read.
"""

import numpy as np
import torch

_TOO_HARD = 100_000  # candidate solutions that numpy may try; beyond it, the ranges' ends decide


class Region:
    """The bytes of a block that a tensor covers.

    Attributes:
        shape: of the tensor.
        lo, hi: first byte and one past the last, counted from the block's start; equal for an empty tensor.
        nbytes: bytes that a kernel moves to read or write the tensor once.
    """

    is_part = False  # of a tensor; what it shares with others is for it to say
    __slots__ = ("_tensor", "dense", "hi", "key", "lo", "nbytes", "shape")

    def __init__(self, tensor: torch.Tensor) -> None:
        size, shape, strides = tensor.element_size(), tuple(tensor.shape), tensor.stride()
        self.nbytes = tensor.numel() * size
        self.lo = tensor.storage_offset() * size
        last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        self.hi = self.lo + (last + 1) * size if self.nbytes else self.lo
        self.dense = self.hi - self.lo == self.nbytes and tensor.is_contiguous()
        self.shape = shape
        self.key: tuple = (self.lo, size, shape, strides)
        self._tensor = tensor

    def overlaps(self, other: "Region") -> bool:
        """Do the two regions (of the same block) share at least one byte?"""
        if self.hi <= other.lo or other.hi <= self.lo or not self.nbytes or not other.nbytes:
            return False
        if other.is_part:
            return other.overlaps(self)
        if self.dense and other.dense:
            return True
        try:
            return np.shares_memory(self._addresses(), other._addresses(), max_work=_TOO_HARD)  # type: ignore[arg-type]
        except np.exceptions.TooHardError:
            return True

    def covers(self, other: "Region") -> bool:
        """Does this region certainly contain the other one? (May say no where the answer is yes.)"""
        return self.key == other.key or (self.dense and self.lo <= other.lo and other.hi <= self.hi)

    def pieces_in(self, data: torch.Tensor) -> list[torch.Tensor]:
        """The region as views of `data` (see bytes_in) that together are all of it."""
        return [self.bytes_in(data)]

    def bytes_in(self, data: torch.Tensor) -> torch.Tensor:
        """The region as a view of `data`, (bytes of the block,) of any dtype: its shape, and one more dimension for the
        bytes of an element. What is repeated in it (`expand`) is there once."""
        lo, size, shape, strides = self.key
        once = [1 if step == 0 else n for n, step in zip(shape, strides, strict=True)]
        return data.as_strided((*once, size), (*(step * size for step in strides), 1), lo)

    def _addresses(self) -> np.ndarray:
        """An array of the same geometry over a storage of its own size; only its addresses are ever looked at."""
        lo, size, shape, strides = self.key
        whole = torch.empty(0, dtype=torch.uint8, device="cpu").set_(self._tensor.untyped_storage()).numpy()
        return np.ndarray(shape, np.dtype((np.void, size)), whole, lo, [step * size for step in strides])
