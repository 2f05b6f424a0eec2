"""What the one launch of chapters 3 to 5 hides: the forward as captured graphs.

A CUDA graph is a list of kernels with all their arguments, addresses included. Capturing writes the list and runs
nothing; a replay is one launch, and the device walks through the list by itself. So

- what a graph reads and writes must stay where it was: inputs, sampled ids, weights and KV cache are allocated before
  the capture and never move. All IO buffers have graphs of their own;
- what the forward allocates on its way comes from the graph's *pool*, memory that is kept for its replays.

All graphs here share one pool: each may use the same bytes as the others for its temporaries. That is legal because
(1) two of them never run at the same time, since all replays are queued on the one compute stream, and (2) none
reads what another one, or the same one in an earlier replay, has left in the pool. The sampled ids are read while
the graph of the other IO buffers runs (the copy out, and chapter 7's carry-over), so they lie outside.

The same code records on CUDA and on the simulated GPU, where the model's operations are recorded one by one (build.py
moves the model there). One declared operation would be quicker, but then its temporaries, the pool and
what can go wrong there would be pretence. Capturing takes the simulator about 0.2 ms for an operation, replaying hardly
more than the arithmetic. (How: PyTorch's notes "CUDA semantics, CUDA Graphs"; vLLM and nano-vllm do it the same way.)
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ch06_graphs.buckets import bucket_for, bucket_sizes, decode_step
from toolkit.captures import captures_cleanly
from toolkit.device import DEVICE, accelerator, new_stream
from toolkit.forward import Forward, Sizes, Tensors


def on_accelerator(model: PreTrainedModel) -> PreTrainedModel:
    """The model itself if it is on the accelerator, else a copy that is: what is captured are its operations there.

    The model has to outlive the batches in flight. One that is on the accelerator already is its owner's to keep; the
    copy goes with the engine, so wait for the device before such an engine is dropped.
    """
    if model.device.type == DEVICE:
        return model
    there: PreTrainedModel = copy.deepcopy(model).to(DEVICE)  # type: ignore[arg-type] # as the library annotates it
    return there


def graph_key(output: Tensor, sizes: Sizes) -> tuple[int | bool, ...]:
    """What tells the graphs apart: everything that is fixed by a capture, and not the same for all of them.

    Args:
        output: where the sampled ids go. Each of the IO buffers has its own tensor; `output.data_ptr()` is its address.
        sizes: the step that is (or was) captured, see `decode_step`.
    """
    raise NotImplementedError("ch06 exercise 3: The right graph for a batch")


class GraphForward(Forward):
    """Runs a forward from static device tensors into a static device tensor: decode steps as graphs, others eagerly.

    It takes the place of `toolkit.forward.Forward`.

    Args:
        forward: (input tensors, KV storage, sizes) -> sampled ids, (samples,) int64; must not wait for the device.
        storage: the KV cache, on the accelerator.

    Attributes:
        graphs: by `graph_key`.
        buckets: the captured numbers of rows, in rising order.
        pool: the memory pool of all graphs, made by `accelerator.graph_pool_handle()`.
        capturing: the stream on which graphs are captured. The allocator keeps memory apart by stream, so with several
            streams there would be nothing to share.
    """

    def __init__(self, forward: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor) -> None:
        super().__init__(forward, storage)
        self.buckets: list[int] = []
        raise NotImplementedError("ch06 exercise 4: One pool for all graphs")

    def step(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        """One forward, launched operation by operation on the current stream; a capture records these operations.

        The result is copied out of the forward's own memory as its last operation, so that the pool is not read later.
        """
        output[: sizes.samples].copy_(self.forward(inputs, self.storage, sizes))

    @captures_cleanly
    def capture(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> Any:  # noqa: ANN401 (a graph of either kind)
        """Record one step as a graph, on the stream `capturing`, with memory from `pool`.

        First the step is run once on that stream, eagerly: the first call of a kernel loads it, and libraries make
        their workspaces then; in a capture CUDA may refuse both. The inputs must hold harmless values. They were
        written on the stream that is current now, so `capturing` has to wait for that stream first.

        Returns:
            the graph, ready to be replayed.
        """
        raise NotImplementedError("ch06 exercise 2: Capture a step")

    def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
        """Capture the decode steps of one of the IO buffers: every bucket, greedy and sampled. Called once for each.

        The largest bucket comes first, its two graphs one after the other, then the next smaller one: what each needs
        fits into the memory that the larger ones have left in the pool.

        Args:
            inputs: their device tensors, with harmless values.
            output: where the sampled ids go, (rows,) int64 on the device.
            full: a decode step that uses these tensors completely.
        """
        self.buckets = bucket_sizes(full.rows)
        raise NotImplementedError("ch06 exercise 4: One pool for all graphs")

    def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
        """Queue the forward of a batch on the current stream.

        A batch in which every row decodes (`sizes.is_decode`) replays the graph of its buffers, bucket, and greedy or
        not. Any other has a shape of its own, and is launched operation by operation (`step`).

        Args:
            inputs: device tensors by name; the first `sizes` of each are read, and the padding behind them.
            output: the first `sizes.samples` of it become the sampled ids.
        """
        raise NotImplementedError("ch06 exercise 3: The right graph for a batch")
