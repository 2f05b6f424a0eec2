"""Graphs for every step, not for decode alone.

Chapter 6 captures decode steps. A step with a prompt in it ran operation by operation, and while requests come and go
that is every few steps: on a large model each of them takes several times as long as a decode step, for all requests.

A mixed step can be captured as well. What differs from one to the next is how its tokens are divided among the rows,
and that is in a tensor, `query_start_loc`. So it is captured by its number of *tokens*, in buckets; all rows of the
IO buffers take part, those beyond the batch with no token at all (packed_buffers.py), and tokens beyond the batch
belong to no row. The attention must take such a step as it is, with its grid fixed by numbers that the host knows. The
Triton kernels do; the plain one would compute every row as wide as the whole step, so with it these steps stay
uncaptured.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from ch06_graphs import GraphForward, bucket_for, bucket_sizes
from toolkit import device
from toolkit.forward import Forward, Sizes, Tensors
from toolkit.paged_attention import attention_kernel_name

SMALLEST_BUCKET = 16  # tokens; fewer would save next to nothing, since the weights are read all the same


class StepGraphs(GraphForward):
    """Chapter 6's graphs, and others for mixed steps of up to `token_budget` tokens.

    Attributes:
        token_buckets: the captured numbers of tokens, in rising order.
        mixed_graphs: by (address of the output, tokens, greedy).
    """

    def __init__(self, forward: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor, token_budget: int) -> None:
        super().__init__(forward, storage)
        self.token_buckets = [size for size in bucket_sizes(token_budget) if size >= SMALLEST_BUCKET]
        self.mixed_graphs: dict[tuple[int, int, bool], Any] = {}

    def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
        for tokens in reversed(self.token_buckets):  # before the smaller decode steps: the largest comes first
            for greedy in (True, False):
                sizes = replace(full, tokens=tokens, num_decode_rows=0, max_query_length=tokens, greedy=greedy)
                self.mixed_graphs[output.data_ptr(), tokens, greedy] = self.capture(inputs, output, sizes)
        super().capture_all(inputs, output, full)

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        if sizes.is_decode or not self.token_buckets or sizes.tokens > self.token_buckets[-1]:
            super().launch(inputs, output, sizes)
            return
        tokens = bucket_for(sizes.tokens, self.token_buckets)
        self.mixed_graphs[output.data_ptr(), tokens, sizes.greedy].replay()


def quickest_forward(step: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor, token_budget: int) -> Forward:
    """The forward with the most graphs that this device and its attention can have. See GraphForward for the arguments.

    The simulated GPU could run graphs too, operation by operation, but that takes very long.
    """
    if device.is_simulated():
        return Forward(step, storage)
    if attention_kernel_name(storage) == "plain torch":
        return GraphForward(step, storage)
    return StepGraphs(step, storage, token_budget)
