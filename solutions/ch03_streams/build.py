"""Chapter 3's engine, put together: the executor gets streams, IO buffers and the forward as one launch."""

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
from ch03_streams.buffer_pool import BufferPool
from ch03_streams.host_prices import HostPrices
from ch03_streams.io_buffers import BufferSizes, IOBuffers, padding
from ch03_streams.stream_executor import StreamExecutor, allocate_cache, model_step
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
    """Continuous batching over three streams and one set of IO buffers, with nothing to order them.

    Arguments as in chapter 2.
    """
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = Scheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    forward = Forward(partial(model_step, model), allocate_cache(model, config))
    pool = BufferPool([IOBuffers(padding(BufferSizes.of(entrance)), DEVICE)])
    executor = StreamExecutor(pool, forward, observers)
    return Engine(Parts(entrance, scheduler, Packer(blocks), executor, book, observers))
