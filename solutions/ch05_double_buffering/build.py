"""Chapter 5's engine, put together: IO buffers for two batches, half batches, and a loop that keeps two in flight."""

from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import BlockManager, Entrance, Observers, Packer, Parts, RequestBook, Texts
from ch03_streams import BufferSizes, HostPrices, IOBuffers, allocate_cache, model_step, padding
from ch04_events import EventExecutor
from ch05_double_buffering.buffer_ring import BufferRing
from ch05_double_buffering.half_batches import HalfBatchScheduler
from ch05_double_buffering.pipelined_engine import PipelinedEngine
from toolkit.device import DEVICE
from toolkit.eos import eos_ids
from toolkit.forward import Forward
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> PipelinedEngine:
    """Two batches in flight, each of half of the requests. Arguments as in chapter 2."""
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = HalfBatchScheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    forward = Forward(partial(model_step, model), allocate_cache(model, config))
    pool = BufferRing([IOBuffers(padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2)])
    executor = EventExecutor(pool, forward, observers)
    return PipelinedEngine(Parts(entrance, scheduler, Packer(blocks), executor, book, observers))
