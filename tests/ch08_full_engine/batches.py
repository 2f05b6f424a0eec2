"""Packed batches made by hand, for the tests of IO buffers."""

import torch

from ch07_carry_over.carry import CarryInputs


def inputs_of_rows(query_start_loc: list[int], num_decode_rows: int) -> CarryInputs:
    """A greedy batch with these row starts; every other value differs from its padding."""
    rows, tokens = len(query_start_loc) - 1, query_start_loc[-1]
    return CarryInputs(
        input_ids=torch.arange(1, tokens + 1),
        position_ids=torch.arange(11, tokens + 11),
        slot_mapping=torch.arange(21, tokens + 21),
        query_start_loc=torch.tensor(query_start_loc, dtype=torch.int32),
        seq_lens=torch.arange(31, rows + 31, dtype=torch.int32),
        block_table=torch.arange(2 * rows, dtype=torch.int32).view(rows, 2),
        logits_indices=torch.full((rows,), tokens - 1),
        temperature=torch.full((rows,), 0.5),
        top_k=torch.full((rows,), 3),
        top_p=torch.full((rows,), 0.5),
        uniform=torch.full((rows,), 0.25),
        num_decode_rows=num_decode_rows,
        max_query_length=max(b - a for a, b in zip(query_start_loc, query_start_loc[1:], strict=False)),
        greedy=True,
        carry_index=torch.zeros(tokens, dtype=torch.int64),
    )
