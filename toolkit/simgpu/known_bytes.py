"""A copy of a block's bytes, as far as the host knows what they will be; known_values.py says how it comes to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from toolkit.simgpu.blocks import Footprint


class KnownBytes:
    """Of one block.

    Attributes:
        data: (bytes,) uint8, its values.
        mask: (bytes,) bool, which of them are known.
    """

    def __init__(self, nbytes: int) -> None:
        with torch.inference_mode(False):
            self.data = torch.zeros(nbytes, dtype=torch.uint8, device="cpu")
            self.mask = torch.zeros(nbytes, dtype=torch.bool, device="cpu")


def forget(writes: Sequence[Footprint]) -> None:
    """Something is about to be written there."""
    for each in writes:
        known = each.block.known
        if known is not None:
            for piece in each.region.pieces_in(known.mask):
                piece.fill_(False)
