"""Chapter 2, continuous batching: requests join and leave the batch at every step, over a paged KV cache.

Read in this order: request, block_manager, scheduler, batch, sampler, compute, config, entrance, texts, undo,
request_book, observers, executor, engine, build. Beside the engine: row_attention and forecast, with machine_engine.
"""

from ch02_continuous_batching.batch import Batch, BatchInputs, Packer
from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.compute import run_model
from ch02_continuous_batching.config import EngineConfig
from ch02_continuous_batching.engine import Engine, Parts
from ch02_continuous_batching.entrance import Entrance
from ch02_continuous_batching.executor import DirectExecutor, Executor
from ch02_continuous_batching.observers import Observer, Observers
from ch02_continuous_batching.request import FinishReason, Request, RequestOutput, RequestStatus, SamplingParams
from ch02_continuous_batching.request_book import RequestBook
from ch02_continuous_batching.sampler import NO_TOKEN, sample, sample_greedy
from ch02_continuous_batching.scheduler import Row, Scheduler
from ch02_continuous_batching.texts import Texts

__all__ = [
    "NO_TOKEN",
    "Batch",
    "BatchInputs",
    "BlockManager",
    "DirectExecutor",
    "Engine",
    "EngineConfig",
    "Entrance",
    "Executor",
    "FinishReason",
    "Observer",
    "Observers",
    "Packer",
    "Parts",
    "Request",
    "RequestBook",
    "RequestOutput",
    "RequestStatus",
    "Row",
    "SamplingParams",
    "Scheduler",
    "Texts",
    "run_model",
    "sample",
    "sample_greedy",
]
