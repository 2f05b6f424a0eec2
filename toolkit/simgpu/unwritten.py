"""Memory that belongs to a new tensor and still holds what an earlier one left: garbage, for what reads it.

`torch.empty` touches nothing: on a GPU the memory that it hands out may still be read on another stream by work on the
tensor that was freed, and a program that waits for that work before it writes is right. So the bytes are filled with a
value that is never right by accident not when the tensor is made, but as part of the first operation that touches them,
behind everything for which that operation waits. Where it only reads, and something earlier may still be in use there,
they are left as they are.
"""

from collections.abc import Callable

import torch

from toolkit.simgpu.byte_ranges import Region


class Unwritten:
    """Which bytes of a block its present tensor has not written yet.

    Args:
        data: the block's bytes.
        whole: the tensor's bytes.
        value: what they are filled with, 0 to 255.
    """

    def __init__(self, data: torch.Tensor, whole: Region, value: int) -> None:
        self._data, self._whole, self._value = data, whole, value
        self._mask: torch.Tensor | None = None  # (bytes,) bool; None: all of them

    def fill(self, region: Region) -> Callable[[], object]:
        """What fills the bytes of a region that are unwritten by now."""
        masks = None if self._mask is None else [each.clone() for each in region.pieces_in(self._mask)]

        def fill() -> None:
            for place, piece in enumerate(region.pieces_in(self._data)):
                if masks is None:
                    piece.fill_(self._value)
                else:
                    piece.masked_fill_(masks[place], self._value)

        return fill

    def is_complete_with(self, region: Region) -> bool:
        """Note that a region is written; has everything been written now?"""
        if region.covers(self._whole):
            return True
        if self._mask is None:
            with torch.inference_mode(False):
                self._mask = torch.ones(self._data.shape, dtype=torch.bool, device="cpu")
        for piece in region.pieces_in(self._mask):
            piece.fill_(False)
        return False
