"""The limits that an engine runs under."""

from dataclasses import dataclass
from typing import get_args

from ch02_continuous_batching.scheduler import Policy
from toolkit.errors import UserError


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
        UserError: a limit is below 1, or the policy is unknown.
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
            if limit is not None and limit < 1:
                raise UserError(f"{name} is {limit}; an engine needs at least 1")
        if self.policy not in get_args(Policy):
            raise UserError(f"policy is {self.policy!r}; take one of {', '.join(get_args(Policy))}")
