"""A shorter carry map: only the last token of a row can be one that is still in flight, so only that one is looked up.

A true story: with transformers 5.17, continuous batching in its asynchronous mode, a request that used the name of one
that had just ended got [78, 78, 78, 78, 78, 78] instead of [15, 21, 15, 21, 80, 44], which its synchronous mode gave.
vLLM had a relative of it: https://github.com/vllm-project/vllm/pull/29355
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from ch02_continuous_batching import Batch, Row
from ch07_carry_over import KEEP, CarryInputs, CarryPacker
from ch08_full_engine.museum.build import async_engine


class ShortMapPacker(CarryPacker):
    """Chapter 7's packer with a carry map of its own."""

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        batch = super().pack(step, rows, previous)
        in_flight = () if previous is None else previous.sampling_rows
        index = torch.tensor(self.last_token_index(batch.rows, in_flight), dtype=torch.int64, device="cpu")
        return replace(batch, inputs=CarryInputs(**(vars(batch.inputs) | {"carry_index": index})))

    def last_token_index(self, rows: Sequence[Row], in_flight: Sequence[Row]) -> list[int]:
        """For each packed token: KEEP, or which sampled id of the batch in flight it is (see `carry_index`).

        Args:
            in_flight: the sampling rows of the batch in flight.
        """
        sampled = {row.request.request_id: i for i, row in enumerate(in_flight)}
        index: list[int] = []
        for row in rows:
            index += [KEEP] * row.num_tokens
            index[-1] = sampled.get(row.request.request_id, KEEP)
        return index


build = partial(async_engine, packer=ShortMapPacker)
