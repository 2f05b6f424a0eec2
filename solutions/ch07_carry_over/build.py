"""Chapter 7's engine, put together: scheduler, packer, buffers and forward know of tokens that are still in flight."""

from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import BlockManager, Entrance, Observers, Parts, RequestBook, Texts
from ch03_streams import BufferSizes, HostPrices, IOBuffers, allocate_cache
from ch04_events import EventExecutor
from ch05_double_buffering import BufferRing, PipelinedEngine
from ch06_graphs import GraphForward, on_accelerator
from ch07_carry_over.carry_packer import CarryPacker, carry_padding, carry_step, link
from ch07_carry_over.carry_scheduler import CarryScheduler
from toolkit.checked import truth
from toolkit.device import DEVICE
from toolkit.eos import eos_ids
from toolkit.forward import Forward
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    *,
    asynchronous: bool = True,
    graphs: bool = False,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> PipelinedEngine:
    """Continuous batching, asynchronous: two batches in flight, every request in both.

    Args:
        asynchronous: False commits each batch before the next is prepared, with the same functions and the same
            results; the difference in time is what asynchrony is worth.
        graphs: run over the graphs of chapter 6 instead of the forward that is given.
        The others are those of chapter 2.
    """
    if graphs:
        model = on_accelerator(model)
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = CarryScheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    forward_class = GraphForward if graphs else Forward
    forward = forward_class(partial(carry_step, model), allocate_cache(model, config))
    pool = BufferRing(link(*(IOBuffers(carry_padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2))))
    executor = EventExecutor(pool, forward, observers)
    parts = Parts(entrance, scheduler, CarryPacker(blocks), executor, book, observers)
    return PipelinedEngine(parts, max_in_flight=2 if truth("asynchronous", asynchronous) else 1)
