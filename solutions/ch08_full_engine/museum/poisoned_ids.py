"""Poison in the IO buffers: an id that no batch has written is noticed, and never reaches a request.

Before they are used, and again once their ids were read, their host side is filled with a number that is no token.

A true story: vllm-omni copies results to the host with non_blocking=True. How it makes the tensors that they go into
depends on an attribute of a class of vLLM's. A new version of vLLM no longer had it, and the code silently took False
in its place (2026). All results were right, and every copy waited: about 240 ms in a step with a long prompt.
https://github.com/vllm-project/vllm-omni/pull/4860
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ch03_streams import IOBuffers
from ch08_full_engine.museum.build import async_engine

UNWRITTEN = -2  # no token, and not NO_TOKEN (-1) either, which is a result


class PoisonedBuffers(IOBuffers):
    """IO buffers whose host side holds UNWRITTEN wherever no batch has left an id."""

    def __init__(self, padding: dict[str, Tensor], device: str) -> None:
        super().__init__(padding, device)
        # BEGIN SOLUTION 8.9
        # BUG self.host_ids = torch.full_like(self.host_ids, UNWRITTEN)
        self.host_ids.fill_(UNWRITTEN)  # a new tensor, even "like" a pinned one, would not be pinned
        # END SOLUTION

    def read_ids(self, samples: int) -> Sequence[int]:
        ids = super().read_ids(samples)
        self.host_ids.fill_(UNWRITTEN)
        if torch.tensor(ids, dtype=torch.int64, device="cpu").eq(UNWRITTEN).any():
            raise RuntimeError(f"the ids {ids} were read before they were written")
        return ids


build = partial(async_engine, buffers=PoisonedBuffers)
