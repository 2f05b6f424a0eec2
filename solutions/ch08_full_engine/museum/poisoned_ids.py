"""Poison in the slots: an id that no batch has written is noticed, and never reaches a request.

Before a slot is used, and again once its ids were read, its host side is filled with a number that is no token.

A true story: a new version of vLLM no longer had an attribute that vllm-omni asked for, with False as a silent
default. Everything still worked, and a step with a long prompt lost about 240 ms.
https://github.com/vllm-project/vllm-omni/pull/4860
"""

import torch

from ch07_carry_over import AsyncEngine
from ch07_carry_over.async_engine import CarrySlot

UNWRITTEN = -2  # no token, and not NO_TOKEN (-1) either, which is a result


class PoisonedSlot(CarrySlot):
    """A slot whose host side holds UNWRITTEN wherever no batch has left an id."""

    def __init__(self, tokens: int, rows: int, width: int, trash_block: int, block_size: int, device: str) -> None:
        super().__init__(tokens, rows, width, trash_block, block_size, device)
        # BEGIN SOLUTION 8.9
        # BUG self.host_ids = torch.full_like(self.host_ids, UNWRITTEN)
        self.host_ids.fill_(UNWRITTEN)  # a new tensor, even "like" a pinned one, would not be pinned
        # END SOLUTION

    def read_ids(self, samples: int) -> list[int]:
        ids = super().read_ids(samples)
        self.host_ids.fill_(UNWRITTEN)
        if torch.tensor(ids, dtype=torch.int64, device="cpu").eq(UNWRITTEN).any():
            raise RuntimeError(f"the ids {ids} were read before they were written")
        return ids


class PoisonedEngine(AsyncEngine):
    """The asynchronous engine over poisoned slots."""

    slot_class = PoisonedSlot
