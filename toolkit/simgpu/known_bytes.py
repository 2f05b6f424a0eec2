"""A copy of a block's bytes, as far as the host knows what they will be; known_values.py says how it comes to know."""

import torch


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
