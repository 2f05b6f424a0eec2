"""From the scheduler's rows to the tensors that the model reads: one packed, ragged batch.

Nothing is padded. The tokens of all rows follow one another, and index tensors say which belong together:

    rows             A: 1 token (decode)   B: 1 token (decode)   C: 3 tokens (prefill chunk)
    input_ids        [ a9                  , b4                  , c0, c1, c2 ]
    position_ids     [ 9                   , 4                   , 0,  1,  2  ]
    query_start_loc  [ 0                   , 1                   , 2,         5 ]
    seq_lens         [ 10                  , 5                   , 3          ]
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.random_numbers import uniform_number
from ch02_continuous_batching.request import Request
from ch02_continuous_batching.sampler import NO_TOKEN
from ch02_continuous_batching.scheduler import Row
from toolkit.forward import Sizes


@dataclass(frozen=True)
class BatchInputs:
    """What one step of the model and the sampler reads. On the host when packed; `to` copies it to a device.

    Attributes:
        input_ids, position_ids: (tokens,) int64.
        slot_mapping, query_start_loc, seq_lens, block_table: see toolkit.paged_attention.PagedBatch.
        logits_indices: (samples,) int64; the packed index of the last token of each row that samples.
        temperature, top_p, uniform: (samples,) float32. top_k: (samples,) int64. See sampler.py.
        num_decode_rows, max_query_length: see PagedBatch.
        greedy: whether every sampling row is greedy, so that the other sampling tensors can be ignored.
    """

    input_ids: Tensor
    position_ids: Tensor
    slot_mapping: Tensor
    query_start_loc: Tensor
    seq_lens: Tensor
    block_table: Tensor
    logits_indices: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    uniform: Tensor
    num_decode_rows: int
    max_query_length: int
    greedy: bool

    @property
    def sizes(self) -> Sizes:
        """How much of its IO buffers the batch will use (chapter 3)."""
        rows, width = self.block_table.shape
        return Sizes(
            tokens=self.input_ids.shape[0],
            rows=rows,
            samples=self.logits_indices.shape[0],
            width=width,
            num_decode_rows=self.num_decode_rows,
            max_query_length=self.max_query_length,
            greedy=self.greedy,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The fields that are tensors, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self, device: torch.device) -> "BatchInputs":
        """The same inputs with every tensor copied to `device`."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self.tensors().items()}
        return replace(self, **moved)


@dataclass(frozen=True)
class Batch:
    """One step, as it was scheduled. It never changes: while it is in flight, requests may finish or be preempted.

    Attributes:
        step: number of the step, from 0.
        rows: in packed order, decode rows (1 token) first.
        inputs: the packed tensors on the host.
    """

    step: int
    rows: Sequence[Row]
    inputs: BatchInputs

    @cached_property
    def sampling_rows(self) -> Sequence[Row]:
        """The rows that yield a token, in the order of the sampled ids."""
        return tuple(row for row in self.rows if row.samples)

    def requests_without_token(self, token_ids: Sequence[int]) -> list[Request]:
        """Of the requests that the sampled ids still count for, those that got NO_TOKEN."""
        if NO_TOKEN not in token_ids:
            return []
        rows = [row for row, token in zip(self.sampling_rows, token_ids, strict=True) if token == NO_TOKEN]
        return [row.request for row in rows if row.epoch == row.request.epoch]


def host_tensor(values: Sequence[Any], dtype: DTypeLike) -> Tensor:
    """The same as torch.tensor(values) in a quarter of the time: a step makes a dozen of them, and numpy is quicker."""
    return torch.from_numpy(np.array(values, dtype))


def pack_tokens(rows: Sequence[Row], blocks: BlockManager) -> tuple[list[int], ...]:
    """The six index lists of a packed batch, see BatchInputs.

    Args:
        rows: in packed order. Row r computes the tokens `r.request.token_ids(r.start, r.start + r.num_tokens)`: for
            a token that is in flight, and so not in the output yet, `token_ids` gives a placeholder.
        blocks: `blocks.slot(request, position)` is where a token's key and value go.

    Returns:
        input_ids, position_ids, slot_mapping (one entry per token), query_start_loc (one per row, and one more),
        seq_lens (one per row), logits_indices (one per row that samples).
    """
    input_ids: list[int] = []
    position_ids: list[int] = []
    slot_mapping: list[int] = []
    query_start_loc: list[int] = [0]
    seq_lens: list[int] = []
    logits_indices: list[int] = []
    for row in rows:
        # BEGIN SOLUTION 2.4
        end = row.start + row.num_tokens
        input_ids += row.request.token_ids(row.start, end)
        position_ids += range(row.start, end)
        slot_mapping += [blocks.slot(row.request, position) for position in range(row.start, end)]
        query_start_loc.append(len(input_ids))
        seq_lens.append(end)
        if row.samples:
            logits_indices.append(len(input_ids) - 1)
        # END SOLUTION
    return input_ids, position_ids, slot_mapping, query_start_loc, seq_lens, logits_indices


class Packer:
    """Puts the rows of a step into packed tensors on the host.

    Args:
        blocks: knows the slot of each position.
    """

    def __init__(self, blocks: BlockManager) -> None:
        self.blocks = blocks

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        """The batch of a step.

        Args:
            step: its number.
            rows: at least one, as scheduled; their blocks are allocated. Packed, decode rows come first.
            previous: the batch that is still in flight, if there is one; of interest from chapter 7 on.
        """
        ordered = tuple(sorted(rows, key=lambda row: row.num_tokens > 1))
        return Batch(step, ordered, self.inputs(ordered))

    def inputs(self, rows: Sequence[Row]) -> BatchInputs:
        """The inputs of rows in packed order."""
        input_ids, position_ids, slot_mapping, query_start_loc, seq_lens, logits_indices = pack_tokens(
            rows, self.blocks
        )

        block_tables = [row.request.block_table for row in rows]
        widest = max(map(len, block_tables))

        sampling = [row for row in rows if row.samples]
        params = [row.request.params for row in sampling]
        uniform = [
            uniform_number(p.seed, row.start + row.num_tokens) if p.temperature else 0.0
            for row, p in zip(sampling, params, strict=True)
        ]
        return BatchInputs(
            input_ids=host_tensor(input_ids, np.int64),
            position_ids=host_tensor(position_ids, np.int64),
            slot_mapping=host_tensor(slot_mapping, np.int64),
            query_start_loc=host_tensor(query_start_loc, np.int32),
            seq_lens=host_tensor(seq_lens, np.int32),
            block_table=host_tensor([table + [0] * (widest - len(table)) for table in block_tables], np.int32),
            logits_indices=host_tensor(logits_indices, np.int64),
            temperature=host_tensor([p.temperature for p in params], np.float32),
            top_k=host_tensor([p.top_k for p in params], np.int64),
            top_p=host_tensor([p.top_p for p in params], np.float32),
            uniform=host_tensor(uniform, np.float32),
            num_decode_rows=sum(row.num_tokens == 1 for row in rows),
            max_query_length=max(row.num_tokens for row in rows),
            greedy=all(p.temperature == 0 for p in params),
        )
