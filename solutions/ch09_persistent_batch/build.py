"""Chapter 9's engine, put together: the parts that go from request to request are swapped for parts over arrays."""

from functools import partial
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching import Entrance, Observers
from ch03_streams import BufferSizes, HostPrices, allocate_cache
from ch04_events import EventExecutor
from ch05_double_buffering import BufferRing
from ch07_carry_over import carry_padding, carry_step, link
from ch08_full_engine import CulpritSearch
from ch08_full_engine.build import FullParts
from ch08_full_engine.step_graphs import quickest_forward
from ch09_persistent_batch.array_blocks import ArrayBlocks
from ch09_persistent_batch.array_book import ArrayBook
from ch09_persistent_batch.array_metrics import ArrayMetrics
from ch09_persistent_batch.array_packer import ArrayPacker
from ch09_persistent_batch.array_scheduler import ArrayScheduler
from ch09_persistent_batch.array_texts import ArrayTexts
from ch09_persistent_batch.persistent_buffers import PersistentBuffers
from ch09_persistent_batch.prefix_array_blocks import PrefixArrayBlocks
from ch09_persistent_batch.seats import Seats
from toolkit.checked import truth
from toolkit.device import DEVICE, is_simulated
from toolkit.eos import eos_ids
from toolkit.errors import UserError
from toolkit.models.compiled import compile_forward
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline

PER_ROW = 0.001  # ms on the virtual clock for each row of a step, in round figures as in chapter 3: a fortieth


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    *,
    prefix_sharing: bool = True,
    compiled: bool = False,
    stream_text: bool = True,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> FullParts:
    """The parts of `PersistentEngine`, which see for the arguments."""
    if truth("compiled", compiled) and is_simulated():
        raise UserError("compiled: the simulated GPU has no compiler; leave it out, or use a machine with a GPU")
    shared = truth("prefix_sharing", prefix_sharing)
    entrance = Entrance.of(model, tokenizer, limits)
    config, sizes = entrance.config, BufferSizes.of(entrance)
    seats = Seats(config.max_rows, entrance.max_length, sizes.width)
    metrics, search = ArrayMetrics(seats), CulpritSearch()
    observers = Observers(timeline, HostPrices(per_row=PER_ROW), metrics, search)
    blocks = (PrefixArrayBlocks if shared else ArrayBlocks)(config.num_blocks, config.block_size)
    scheduler = ArrayScheduler(seats, blocks, config)
    if compiled:
        compile_forward(model)
    book = ArrayBook(seats, scheduler, ArrayTexts(tokenizer, truth("stream_text", stream_text)), eos_ids(model))
    forward = quickest_forward(partial(carry_step, model), allocate_cache(model, config), config.token_budget)
    first, second = (PersistentBuffers(carry_padding(sizes), DEVICE) for _ in range(2))
    packer = ArrayPacker(seats, config.block_size, first)
    executor = EventExecutor(BufferRing(link(first, second)), forward, observers)
    return FullParts(entrance, scheduler, packer, executor, book, observers, metrics, search)
