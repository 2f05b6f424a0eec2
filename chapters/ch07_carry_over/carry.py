"""Carry-over: a token goes from one batch into the next on the device, before the host has seen it.

A request that is in batch N and in batch N + 1 needs, as its input in N + 1, the token that N samples. When the host
packs N + 1, that token has no value yet. So a placeholder goes in, together with a map: for every packed token, either
-1 (the host knew it: keep it) or the index of the sampled id of batch N that replaces it. The first thing that the
forward of N + 1 does is to apply the map. It runs behind N on the compute stream, so the ids are there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ch02_continuous_batching import Batch, BatchInputs, Row

KEEP = -1


@dataclass(frozen=True)
class CarryInputs(BatchInputs):
    """The inputs of a batch, and which of its tokens come from the batch before.

    Attributes:
        carry_index: (tokens,) int64; KEEP, or an index into the sampled ids of the batch before.
    """

    carry_index: Tensor


def carry_index(rows: Sequence[Row], previous: Batch | None) -> list[int]:
    """For each packed token of a batch: KEEP, or which sampled id of the previous batch it is.

    Args:
        rows: in packed order. Of row r's positions (r.start to r.start + r.num_tokens - 1), those below
            `r.request.num_tokens` are known to the host.
        previous: the batch that is still in flight; None if there is none. The sampled ids are in the order of its
            `sampling_rows`.

    A request is found again by the request object and its epoch, never by its name: a name may be used again, and a
    request that was preempted since has nothing to carry over.
    """
    raise NotImplementedError("ch07 exercise 1: Which token comes from the batch before")


def apply_carry(input_ids: Tensor, carry_index: Tensor, previous_ids: Tensor) -> Tensor:
    """Replace placeholders by the tokens that the previous batch has sampled, on the device.

    KEEP is no index: it is never looked up, not even for a result that is dropped afterwards.

    Args:
        input_ids: (tokens,) int64, placeholders included.
        carry_index: (tokens,) int64; KEEP, or an index into previous_ids.
        previous_ids: (rows,) int64, the sampled ids of the previous batch, as its IO buffers hold them.

    Returns:
        (tokens,) int64, a new tensor. Nothing here depends on a value on the host, so it can be captured in a graph.
    """
    raise NotImplementedError("ch07 exercise 2: Apply the map on the device")
