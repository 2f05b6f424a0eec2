"""The forward as one launch on the current stream, whatever is inside. Chapter 6 looks there.

Launched kernel by kernel, a forward of a large model is bound by the host: the device waits for launches, and nothing
of what streams, events and double buffering do would show. So from chapter 3 on the whole forward is one launch:

- on CUDA a step in which every row decodes replays a graph, captured for all rows of the IO buffers (rows
  beyond the batch work on a block of the cache that no request owns); a step with prompts in it runs kernel by kernel;
- on the simulated GPU it is one operation that declares what it reads and writes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from toolkit import device

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """How much of its IO buffers a batch uses. They are known on the host, so no tensor is read for them.

    Attributes:
        tokens, rows, samples: packed tokens, rows, and rows that sample.
        width: columns of the block table.
        num_decode_rows, max_query_length, greedy: see BatchInputs of chapter 2.
    """

    tokens: int
    rows: int
    samples: int
    width: int
    num_decode_rows: int
    max_query_length: int
    greedy: bool

    @property
    def is_decode(self) -> bool:
        """Whether every row computes exactly one token."""
        return self.num_decode_rows == self.rows

    @property
    def cost_ms(self) -> float:
        """What the simulated GPU charges for the forward: reading the weights once, and something per token.

        Round figures in the range of an 8B model on a current data-centre GPU; no measurement.
        """
        return 8.0 + 0.02 * self.tokens


class Forward:
    """Runs a forward from static device tensors into a static device tensor, with one launch.

    Args:
        forward: (input tensors, KV storage, sizes) -> sampled ids, (samples,) int64; must not wait for the device.
        storage: the KV cache, on the accelerator.
    """

    def __init__(self, forward: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor) -> None:
        self.forward = forward
        self.storage = storage
        self.graphs: dict[tuple[int | bool, ...], Any] = {}  # of either accelerator, which have no common class

    def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
        """On CUDA, capture the decode step of a set of IO buffers.

        The step is run, so the inputs must hold harmless values.

        Args:
            inputs: their device tensors.
            output: where the sampled ids go, (rows,) int64 on the device.
            full: a decode step that uses these tensors completely.
        """
        if device.is_simulated():
            return
        for greedy in (True, False):
            sizes = Sizes(**{**vars(full), "greedy": greedy})
            replay = device.one_launch("forward", self._step(inputs, sizes), [], [output, self.storage])
            self.graphs[output.data_ptr(), greedy] = replay

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        """Queue the forward of a batch on the current stream.

        Args:
            inputs: device tensors by name; the first `sizes` of each are read.
            output: the first `sizes.samples` of it become the sampled ids.
        """
        graph = self.graphs.get((output.data_ptr(), sizes.greedy)) if sizes.is_decode and self.graphs else None
        if graph is not None:
            graph()
            return
        names = list(inputs)

        def step(*tensors: Tensor) -> None:
            given, (ids, storage) = tensors[: len(names)], tensors[len(names) :]
            ids[: sizes.samples].copy_(self.forward(dict(zip(names, given, strict=True)), storage, sizes))

        reads = [inputs[name] for name in names]
        device.launch("forward", step, reads=reads, writes=[output, self.storage], cost_ms=sizes.cost_ms)

    def _step(self, inputs: Tensors, sizes: Sizes) -> Callable[..., None]:
        """The step over the tensors themselves, as a graph captures it."""

        def step(ids: Tensor, storage: Tensor) -> None:
            ids[: sizes.samples].copy_(self.forward(inputs, storage, sizes))

        return torch.no_grad()(step)
