"""Chapter 4's engine, put together: the executor is one that orders its streams."""

from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import (
    BlockManager,
    Engine,
    Entrance,
    Observers,
    Packer,
    Parts,
    RequestBook,
    Scheduler,
    Texts,
)
from ch03_streams import BufferPool, BufferSizes, HostPrices, IOBuffers, allocate_cache, model_step, padding
from ch04_events.event_executor import EventExecutor
from toolkit.device import DEVICE
from toolkit.eos import eos_ids
from toolkit.forward import Forward
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> Engine[IOBuffers]:
    """Continuous batching over three streams, ordered by events, one batch at a time. Arguments as in chapter 2."""
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = Scheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    forward = Forward(partial(model_step, model), allocate_cache(model, config))
    pool = BufferPool([IOBuffers(padding(BufferSizes.of(entrance)), DEVICE)])
    executor = EventExecutor(pool, forward, observers)
    return Engine(Parts(entrance, scheduler, Packer(blocks), executor, book, observers))
