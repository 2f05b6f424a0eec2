"""Chapter 6's engine, put together: the forward is replayed from graphs, and the model is on the accelerator for that.

All replays and all eager prefill steps are still queued on the one compute stream (chapter 3's `run`), which is one of
the two reasons why the graphs may share a pool.
"""

from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import BlockManager, Entrance, Observers, Packer, Parts, RequestBook, Texts
from ch03_streams import BufferSizes, HostPrices, IOBuffers, allocate_cache, model_step, padding
from ch04_events import EventExecutor
from ch05_double_buffering import BufferRing, HalfBatchScheduler, PipelinedEngine
from ch06_graphs.graph_forward import GraphForward, on_accelerator
from toolkit.device import DEVICE
from toolkit.eos import eos_ids
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> PipelinedEngine:
    """Two batches in flight, and a launch for each is the replay of a graph. Arguments as in chapter 2."""
    model = on_accelerator(model)
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = HalfBatchScheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    forward = GraphForward(partial(model_step, model), allocate_cache(model, config))
    pool = BufferRing([IOBuffers(padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2)])
    executor = EventExecutor(pool, forward, observers)
    return PipelinedEngine(Parts(entrance, scheduler, Packer(blocks), executor, book, observers))
