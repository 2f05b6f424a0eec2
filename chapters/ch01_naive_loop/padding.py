"""Making ragged prompts rectangular.

A model wants one tensor, prompts have different lengths: so the short ones are filled up with a padding token. On the
*left*, because the newest token of every row must be in the last column, where the next one is read off.
"""

from typing import Any

import torch
from torch import Tensor

INT64: Any = {"dtype": torch.int64, "device": "cpu"}  # torch's defaults for both are the caller's to choose


def pad_left(prompts: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Fill prompts up on the left to the length of the longest.

    Args:
        prompts: token ids of each row, at least one row and one token per row. The caller's: not to be changed.
        pad_id: what to fill with. It may be a token that also occurs in prompts, so only the mask tells them apart.

    Returns:
        input_ids and attention_mask, both (rows, longest) int64; the mask is 1 for a real token and 0 for padding.
    """
    raise NotImplementedError("ch01 exercise 1: Pad ragged prompts on the left")


def position_ids(attention_mask: Tensor) -> Tensor:
    """Each real token's position in its own row: the first one is at 0, however much padding comes before it.

    Args:
        attention_mask: (rows, length) int64, as from `pad_left`.

    Returns:
        (rows, length) int64; padding gets 0, which no real token ever looks at.
    """
    raise NotImplementedError("ch01 exercise 1: Pad ragged prompts on the left")
