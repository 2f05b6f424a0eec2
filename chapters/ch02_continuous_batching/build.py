"""Chapter 2's engine, put together. Each later chapter has such a file, and the difference is that chapter's idea."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ch02_continuous_batching.batch import Packer
from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.engine import Engine, Parts
from ch02_continuous_batching.entrance import Entrance
from ch02_continuous_batching.executor import DirectExecutor
from ch02_continuous_batching.observers import Observers
from ch02_continuous_batching.request_book import RequestBook
from ch02_continuous_batching.scheduler import Scheduler
from ch02_continuous_batching.texts import Texts
from toolkit.eos import eos_ids
from toolkit.timeline import NO_TIMELINE, NoTimeline, Timeline


def build(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    timeline: Timeline | NoTimeline = NO_TIMELINE,
    **limits: Any,  # noqa: ANN401 (EngineConfig has the types)
) -> Engine[Tensor]:
    """A synchronous engine with continuous batching.

    Args:
        model: a Llama-family causal language model; it is switched to paged attention.
        tokenizer: needed for stop strings and for text in the outputs; token ids alone work without.
        timeline: records what host and device do when.
        limits: the fields of EngineConfig, by name.

    Raises:
        UserError: see `Entrance.of`.
    """
    entrance = Entrance.of(model, tokenizer, limits)
    config = entrance.config
    observers = Observers(timeline)
    blocks = BlockManager(config.num_blocks, config.block_size)
    scheduler = Scheduler(blocks, config.max_rows, config.token_budget, config.policy)
    book = RequestBook(scheduler, Texts(tokenizer), eos_ids(model))
    executor = DirectExecutor(model, config, observers)
    return Engine(Parts(entrance, scheduler, Packer(blocks), executor, book, observers))
