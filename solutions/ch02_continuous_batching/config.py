"""The limits that an engine runs under."""

from dataclasses import dataclass

from ch02_continuous_batching.scheduler import Policy


@dataclass(frozen=True)
class EngineConfig:
    """The limits of an engine.

    Attributes:
        num_blocks, block_size: size of the KV cache, in blocks and in tokens per block.
        max_rows: requests in a step, at most.
        token_budget: tokens in a step, at most.
        policy: see Scheduler.
    """

    num_blocks: int = 256
    block_size: int = 16
    max_rows: int = 16
    token_budget: int = 256
    policy: Policy = "fcfs"
