"""A shorter carry map: only the last token of a row can be one that is still in flight, so only that one is looked up.

A true story: with transformers 5.17, continuous batching in its asynchronous mode, a request that used the name of one
that had just ended got [78, 78, 78, 78, 78, 78] instead of [15, 21, 15, 21, 80, 44], which its synchronous mode gave.
vLLM had a relative of it: https://github.com/vllm-project/vllm/issues/42492
"""

from dataclasses import replace

import torch

from ch02_continuous_batching import Batch, Row
from ch07_carry_over import KEEP, AsyncEngine
from ch07_carry_over.carry import CarryInputs


class ShortMapEngine(AsyncEngine):
    """The asynchronous engine with a carry map of its own."""

    def make_batch(self, rows: list[Row]) -> Batch:
        batch = super().make_batch(rows)
        index = torch.tensor(self.last_token_index(batch.rows), dtype=torch.int64, device="cpu")
        return replace(batch, inputs=CarryInputs(**(vars(batch.inputs) | {"carry_index": index})))

    def last_token_index(self, rows: tuple[Row, ...]) -> list[int]:
        """For each packed token: KEEP, or which sampled id of the batch in flight it is (see `carry_index`)."""
        in_flight = self.in_flight[-1][0].sampling_rows if self.in_flight else ()
        sampled = {row.request.request_id: i for i, row in enumerate(in_flight)}
        index: list[int] = []
        for row in rows:
            index += [KEEP] * row.num_tokens
            index[-1] = sampled.get(row.request.request_id, KEEP)
        return index
