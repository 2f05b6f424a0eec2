"""The persistent batch: the inputs of a step in one piece of memory, in which a step writes what has changed.

Chapter 8 packs each batch into new tensors. Here the inputs of the latest batch stay where they are, laid out like the
IO buffers, and in steady decode a step writes the columns that move on: tokens, positions, slots, lengths. What padding
and block tables say is still right. The launch copies the whole piece into the pinned side of the batch's IO buffers.

So there is *one* state that is edited, and it is ordinary memory: no copy engine reads it, and the next edit may come
at once. Edited in pinned memory it would overtake the copy that still reads, and the simulated GPU says so.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np

from ch02_continuous_batching import Batch, Packer, Row
from ch02_continuous_batching.random_numbers import uniform_number
from ch07_carry_over import KEEP
from ch08_full_engine import PackedBuffers
from ch08_full_engine.packed_buffers import views
from ch09_persistent_batch.array_batch import ArrayBatch, ArrayInputs
from ch09_persistent_batch.rows import Rows
from ch09_persistent_batch.seats import Array, Seats
from toolkit.forward import Sizes


class ArrayPacker(Packer):
    """Writes the rows of a step into the persistent batch.

    Args:
        like: IO buffers whose layout and padding the batch has.

    Attributes:
        buffer: (bytes,) uint8, ordinary memory; `columns` are its parts by name, as arrays.
        last: the seats of the rows that stand there, if each of them decodes and samples; otherwise None.
    """

    def __init__(self, seats: Seats, block_size: int, like: PackedBuffers) -> None:
        self.seats, self.block_size = seats, block_size
        self.buffer = like.padding_buffer.clone()
        self.columns = {name: part.numpy() for name, part in views(self.buffer, like.padding).items()}
        self.padding = like.padding_buffer.numpy()
        self.last: Array | None = None

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> ArrayBatch:
        """As in chapter 2. Where its batch before is still in flight, the seats know what is carried over."""
        rows = cast(Rows, rows)
        longest = int(rows.counts.max())
        if longest > 1:
            rows = rows.chosen((rows.counts > 1).argsort(kind="stable"))  # decode rows first
        sampling = rows if rows.samples.all() else rows.chosen(rows.samples)
        same_rows, self.last = rows.seats is self.last, None  # None, should this be interrupted
        if not same_rows:
            self.buffer.numpy()[:] = self.padding
        num_tokens = self.write_tokens(rows, longest)
        width = self.write_tables(rows.seats, same_rows)
        greedy = self.write_sampling(rows, sampling, longest)
        self.seats.sampled_at[sampling.seats] = np.arange(len(sampling))  # where the next step finds what it carries
        self.last = rows.seats if longest == 1 and sampling is rows else None
        decodes = int(np.count_nonzero(rows.counts == 1))
        sizes = Sizes(num_tokens, len(rows), len(sampling), width, decodes, longest, greedy)
        return ArrayBatch(step, rows, ArrayInputs(self.buffer, sizes), sampling)

    def write_tokens(self, rows: Rows, longest: int) -> int:
        """Everything that there is one of per token. Returns how many tokens there are."""
        owner, positions = rows.seats, rows.starts
        if longest > 1:
            ends = rows.counts.cumsum()
            self.columns["query_start_loc"][1 : len(ends) + 1] = ends
            self.columns["query_start_loc"][len(ends) + 1 :] = ends[-1]  # rows beyond the batch have no token
            owner = np.repeat(rows.seats, rows.counts)
            positions = np.arange(ends[-1]) + np.repeat(rows.starts - (ends - rows.counts), rows.counts)
        self.write_packed_tokens(owner, positions)
        return len(positions)

    def write_packed_tokens(self, owner: Array, positions: Array) -> None:
        """Write `input_ids`, `carry_index`, `position_ids` and `slot_mapping` of all packed tokens.

        A token is carried over if the host does not know it yet (`known`): then it is the one that its seat samples in
        the batch before, at index `sampled_at` of that batch's ids. Any token id will do for it until then. For all
        other tokens the carry index is KEEP, which has to be written too: the columns still hold the last step.
        They are views of `buffer`, so their entries are written, the first `tokens` of each.

        Args:
            owner, positions: (tokens,) int64; of each packed token its seat, and its place in the sequence. In decode
                these are arrays of the rows themselves, so they stay as they are.
        """
        s, at, size = self.seats, self.columns, self.block_size
        num = len(positions)
        # BEGIN SOLUTION 9.5
        at["input_ids"][:num] = s.tokens[owner, positions]
        at["carry_index"][:num] = np.where(positions < s.known[owner], KEEP, s.sampled_at[owner])
        at["position_ids"][:num] = positions
        block, offset = np.divmod(positions, size)
        at["slot_mapping"][:num] = s.tables[owner, block] * size + offset
        # END SOLUTION

    def write_tables(self, seats: Array, same_rows: bool) -> int:
        """Lengths and block tables; of the same rows as before only the tables that have grown. Returns their width."""
        s, at = self.seats, self.columns
        at["seq_lens"][: len(seats)] = s.computed[seats]
        width = int(s.num_blocks[seats].max())
        changed = s.grown[seats].nonzero()[0] if same_rows else np.arange(len(seats))
        at["block_table"][changed, :width] = s.tables[seats[changed], :width]
        s.grown[:] = False
        return width

    def write_sampling(self, rows: Rows, sampling: Rows, longest: int) -> bool:
        """Everything that there is one of per sampled id. Returns whether all of them are greedy."""
        s, at, seats, num = self.seats, self.columns, sampling.seats, len(sampling)
        if len(seats) != len(rows) or longest > 1:
            at["logits_indices"][:num] = (rows.counts.cumsum() - 1)[rows.samples]
        temperature = s.temperature[seats]
        if not temperature.any():
            return True
        at["temperature"][:num], at["top_k"][:num], at["top_p"][:num] = temperature, s.top_k[seats], s.top_p[seats]
        at["uniform"][:num] = uniform_number(s.seed[seats], sampling.ends.astype(np.uint64))
        return False
