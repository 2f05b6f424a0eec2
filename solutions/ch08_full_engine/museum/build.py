"""The engines that the exhibits are shown in: chapter 7's and chapter 6's, with one part swapped."""

from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import BlockManager, Entrance, Observers, Packer, Parts, RequestBook, Texts
from ch03_streams import BufferSizes, HostPrices, IOBuffers, allocate_cache, model_step, padding
from ch04_events import EventExecutor
from ch05_double_buffering import BufferRing, HalfBatchScheduler, PipelinedEngine
from ch06_graphs import GraphForward, on_accelerator
from ch07_carry_over import CarryPacker, CarryScheduler, carry_padding, carry_step, link
from toolkit.device import DEVICE
from toolkit.eos import eos_ids
from toolkit.forward import Forward
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


def async_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    *,
    scheduler: type[CarryScheduler] = CarryScheduler,
    texts: type[Texts] = Texts,
    book: Callable[..., RequestBook] = RequestBook,
    packer: type[CarryPacker] = CarryPacker,
    buffers: type[IOBuffers] = IOBuffers,
    executor: Callable[..., EventExecutor] = EventExecutor,
    engine: type[PipelinedEngine] = PipelinedEngine,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> PipelinedEngine:
    """The engine of chapter 7; an exhibit names the part that it brings."""
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    queues = scheduler(blocks, config.max_rows, config.token_budget, config.policy)
    requests = book(queues, texts(tokenizer), eos_ids(model))
    forward = Forward(partial(carry_step, model), allocate_cache(model, config))
    pool = BufferRing(link(*(buffers(carry_padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2))))
    runs = executor(pool, forward, observers)
    return engine(Parts(entrance, queues, packer(blocks), runs, requests, observers))


def graph_engine(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    *,
    buffers: type[IOBuffers] = IOBuffers,
    forward: type[GraphForward] = GraphForward,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> PipelinedEngine:
    """The engine of chapter 6; an exhibit names the part that it brings."""
    model = on_accelerator(model)
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline, HostPrices())
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = HalfBatchScheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    graphs = forward(partial(model_step, model), allocate_cache(model, config))
    pool = BufferRing([buffers(padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2)])
    executor = EventExecutor(pool, graphs, observers)
    return PipelinedEngine(Parts(entrance, scheduler, Packer(blocks), executor, book, observers))
