"""A batch whose rows and inputs are arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ch02_continuous_batching import Batch
from ch02_continuous_batching.sampler import NO_TOKEN
from ch09_persistent_batch.rows import Rows
from ch09_persistent_batch.seats import SeatedRequest
from toolkit.forward import Sizes


@dataclass(frozen=True)
class ArrayInputs:
    """The inputs of a step in the packer's memory, which is written again for the next step.

    Attributes:
        buffer: (bytes,) uint8, laid out as in PackedBuffers.
        sizes: how much of it the step uses.
    """

    buffer: Tensor
    sizes: Sizes


@dataclass(frozen=True)
class ArrayBatch(Batch):
    """One step, as it was scheduled. Once it is launched, its rows are all that is needed of it.

    Attributes:
        rows: in packed order, decode rows first.
        sampling: those that yield a token, in the order of the sampled ids.
    """

    rows: Rows
    inputs: ArrayInputs  # type: ignore[assignment] # chapter 2's has a tensor for each input
    sampling: Rows

    @property
    def sampling_rows(self) -> Rows:  # type: ignore[override] # made when first asked for, in chapter 2
        return self.sampling

    def requests_without_token(self, token_ids: Sequence[int]) -> list[SeatedRequest]:  # type: ignore[override]
        rows, lost = self.sampling_rows, (np.asarray(token_ids) == NO_TOKEN).nonzero()[0]
        return [rows.requests[i] for i in lost.tolist() if rows.alive[i]]
