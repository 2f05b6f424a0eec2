"""The limits that an engine runs under."""

from dataclasses import dataclass
from typing import get_args

import psutil
import torch
from transformers import PreTrainedModel

from ch02_continuous_batching.scheduler import Policy
from toolkit.checked import INT32_MAX, whole_number
from toolkit.errors import UserError
from toolkit.paged_attention import PagedKVCache


@dataclass(frozen=True)
class EngineConfig:
    """The limits of an engine.

    Attributes:
        num_blocks, block_size: size of the KV cache, in blocks and in tokens per block.
        max_rows: requests in a step, at most.
        token_budget: tokens in a step, at most.
        policy: see Scheduler.
        max_length: tokens of a request, prompt and output together, at most. None: the model's whole context.

    Raises:
        UserError: a limit is no whole number, below 1, or too large for the int32 tensors; or the policy is unknown.
    """

    num_blocks: int = 256
    block_size: int = 16
    max_rows: int = 16
    token_budget: int = 256
    policy: Policy = "fcfs"
    max_length: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_size", "max_rows", "token_budget", "max_length"):
            limit = getattr(self, name)
            if limit is not None or name != "max_length":
                advice = f"an engine needs at least 1, and at most {INT32_MAX}"
                object.__setattr__(self, name, whole_number(name, limit, 1, INT32_MAX, advice))
        if self.policy not in get_args(Policy):
            raise UserError(f"policy is {self.policy!r}; take one of {', '.join(get_args(Policy))}")

    def check_memory(self, model: PreTrainedModel, max_length: int) -> None:
        """Refuse a KV cache, or a step's block table, that is larger than all the memory of the model's device.

        Asking for so much would fill the memory before anything fails.

        Raises:
            UserError: it cannot fit.
        """
        on_gpu = model.device.type == "cuda"
        memory = torch.cuda.mem_get_info(model.device)[1] if on_gpu else psutil.virtual_memory().total
        cache = self.num_blocks * PagedKVCache.block_bytes(model, self.block_size)
        # Rows of 4-byte block numbers, as many as the pool or the longest request has.
        tables = 4 * self.max_rows * min(self.num_blocks, -(-max_length // self.block_size))
        for limits, needed in (
            (f"num_blocks {self.num_blocks} and block_size {self.block_size}", cache),
            (f"max_rows {self.max_rows}", tables),
            (f"token_budget {self.token_budget}", 24 * self.token_budget),  # three int64 for each packed token
        ):
            if needed > memory:
                raise UserError(f"{limits} need {needed >> 30} GiB, and {model.device} has {memory >> 30}; take fewer")
