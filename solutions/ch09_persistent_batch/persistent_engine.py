"""The engine of this chapter: chapter 8's loop over other parts."""

from functools import partial

from ch08_full_engine import FullEngine
from ch09_persistent_batch.build import build

PersistentEngine = partial(FullEngine, build=build)
"""Continuous batching with a persistent batch: what the host does for a step hardly grows with the rows.

Arguments, attributes and results are those of `FullEngine`, token for token. What differs:

- `stream_text=False` makes a request's text when it ends, unless it has stop strings.
- `step` returns StepOutputs: arrays, which make an output object for each request if they are iterated over.
- All seats have memory for the longest request: 4 * max_rows * max_length bytes of host memory.
"""
