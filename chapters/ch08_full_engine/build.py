"""Chapter 8's engine, put together: shared prefixes, a book for a service, quicker launches, and who looks on."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import BlockManager, Entrance, Observers, Parts
from ch03_streams import BufferSizes, HostPrices, IOBuffers, allocate_cache
from ch04_events import EventExecutor
from ch05_double_buffering import BufferRing
from ch07_carry_over import CarryPacker, CarryScheduler, carry_padding, carry_step, link
from ch08_full_engine.culprit import CulpritSearch
from ch08_full_engine.metrics import Metrics
from ch08_full_engine.packed_buffers import PackedBuffers
from ch08_full_engine.prefix_blocks import PrefixBlockManager, PrefixScheduler
from ch08_full_engine.service_book import ServiceBook
from ch08_full_engine.step_graphs import quickest_forward
from ch08_full_engine.streamed_texts import StreamedTexts
from toolkit.checked import truth
from toolkit.device import DEVICE, is_simulated
from toolkit.eos import eos_ids
from toolkit.errors import UserError
from toolkit.models.compiled import compile_forward
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


@dataclass(frozen=True)
class FullParts(Parts[IOBuffers]):
    """What the full engine is made of: the parts of every engine, and two that look on."""

    book: ServiceBook
    metrics: Metrics
    search: CulpritSearch


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    *,
    prefix_sharing: bool = True,
    compiled: bool = False,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> FullParts:
    """The parts of `FullEngine`, which see for the arguments."""
    if truth("compiled", compiled) and is_simulated():
        raise UserError("compiled: the simulated GPU has no compiler; leave it out, or use a machine with a GPU")
    shared = truth("prefix_sharing", prefix_sharing)
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    metrics, search = Metrics(), CulpritSearch()
    observers = Observers(timeline, HostPrices(), metrics, search)
    blocks = (PrefixBlockManager if shared else BlockManager)(config.num_blocks, config.block_size)
    make_scheduler = PrefixScheduler if shared else CarryScheduler
    scheduler = make_scheduler(blocks, config.max_rows, config.token_budget, config.policy)
    if compiled:
        compile_forward(model)
    book = ServiceBook(scheduler, StreamedTexts(tokenizer), eos_ids(model))
    forward = quickest_forward(partial(carry_step, model), allocate_cache(model, config), config.token_budget)
    pool = BufferRing(link(*(PackedBuffers(carry_padding(BufferSizes.of(entrance)), DEVICE) for _ in range(2))))
    executor = EventExecutor(pool, forward, observers)
    return FullParts(entrance, scheduler, CarryPacker(blocks), executor, book, observers, metrics, search)
