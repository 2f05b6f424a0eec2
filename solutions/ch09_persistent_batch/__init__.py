"""Chapter 9, the persistent batch: a host whose work for a step hardly grows with the number of requests.

Read in this order: seats, rows, array_blocks, prefix_array_blocks, array_scheduler, array_batch, array_packer,
persistent_buffers, step_outputs, array_texts, array_book, array_metrics, build, persistent_engine; forecast is what the
lesson ends with.
"""

from ch09_persistent_batch.array_blocks import ArrayBlocks
from ch09_persistent_batch.array_book import ArrayBook
from ch09_persistent_batch.array_packer import ArrayPacker
from ch09_persistent_batch.array_scheduler import ArrayScheduler
from ch09_persistent_batch.array_texts import ArrayTexts
from ch09_persistent_batch.persistent_engine import PersistentEngine
from ch09_persistent_batch.prefix_array_blocks import PrefixArrayBlocks
from ch09_persistent_batch.rows import Rows
from ch09_persistent_batch.seats import SeatedRequest, Seats
from ch09_persistent_batch.step_outputs import StepOutputs

__all__ = [
    "ArrayBlocks",
    "ArrayBook",
    "ArrayPacker",
    "ArrayScheduler",
    "ArrayTexts",
    "PersistentEngine",
    "PrefixArrayBlocks",
    "Rows",
    "SeatedRequest",
    "Seats",
    "StepOutputs",
]
