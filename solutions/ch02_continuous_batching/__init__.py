"""Chapter 2, continuous batching: requests join and leave the batch at every step, over a paged KV cache.

Read in this order: request, block_manager, scheduler, batch, sampler, model_runner, config, entrance,
all_or_nothing, generate, engine.
"""

from ch02_continuous_batching.batch import Batch, BatchInputs, pack
from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.engine import Engine
from ch02_continuous_batching.model_runner import ModelRunner
from ch02_continuous_batching.request import FinishReason, Request, RequestOutput, RequestStatus, SamplingParams
from ch02_continuous_batching.sampler import NO_TOKEN, sample, sample_greedy
from ch02_continuous_batching.scheduler import Row, Scheduler

__all__ = [
    "NO_TOKEN",
    "Batch",
    "BatchInputs",
    "BlockManager",
    "Engine",
    "EngineConfig",
    "FinishReason",
    "ModelRunner",
    "Request",
    "RequestOutput",
    "RequestStatus",
    "Row",
    "SamplingParams",
    "Scheduler",
    "pack",
    "sample",
    "sample_greedy",
]
