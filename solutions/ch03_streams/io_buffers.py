"""IO buffers: the tensors through which one batch enters and leaves the device, and the events that order its way.

Copies that shall run while the host goes on need two things. The host's side must be *pinned* memory, which the
operating system never moves, so that the copy engine can read it by itself; from ordinary ("pageable") memory a large
copy makes the host wait. And the device's side must be *static*: allocated once, always at the same address, so that a
captured forward finds its inputs there at every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ch02_continuous_batching.batch import BatchInputs
from ch02_continuous_batching.entrance import Entrance
from toolkit.device import accelerator, name_tensors, write_host
from toolkit.forward import Sizes, Tensors

# Torch's default dtype and device are the caller's to choose; these tensors are what they are in any case.
INT64: Any = {"dtype": torch.int64, "device": "cpu"}
INT32: Any = {"dtype": torch.int32, "device": "cpu"}
FLOAT32: Any = {"dtype": torch.float32, "device": "cpu"}


@dataclass(frozen=True)
class BufferSizes:
    """How large IO buffers are.

    Attributes:
        tokens, rows: a batch has at most so many packed tokens and rows.
        width: a row owns at most so many blocks.
        trash_block: a block of the cache that no request owns. Rows beyond the batch point there.
        block_size: tokens per block.
    """

    tokens: int
    rows: int
    width: int
    trash_block: int
    block_size: int

    @classmethod
    def of(cls, entrance: Entrance) -> "BufferSizes":
        """The sizes that are enough for every batch of an engine. The trash block lies behind the manager's blocks."""
        config = entrance.config
        return cls(
            tokens=max(config.token_budget, config.max_rows),  # a decode step of all rows fits in any case
            rows=config.max_rows,
            width=min(-(-entrance.max_length // config.block_size), config.num_blocks),
            trash_block=config.num_blocks,
            block_size=config.block_size,
        )


def padding(sizes: BufferSizes) -> dict[str, Tensor]:
    """The values of each input where no row uses it: decode rows of one token each, in the trash block.

    Names and dtypes are those of BatchInputs, each at its largest.
    """
    tokens, rows = sizes.tokens, sizes.rows
    return {
        "input_ids": torch.zeros(tokens, **INT64),
        "position_ids": torch.zeros(tokens, **INT64),
        "slot_mapping": torch.full((tokens,), sizes.trash_block * sizes.block_size, **INT64),
        "query_start_loc": torch.arange(rows + 1, **INT32),
        "seq_lens": torch.ones(rows, **INT32),
        "block_table": torch.full((rows, sizes.width), sizes.trash_block, **INT32),
        "logits_indices": torch.arange(rows, **INT64),
        "temperature": torch.zeros(rows, **FLOAT32),
        "top_k": torch.zeros(rows, **INT64),
        "top_p": torch.ones(rows, **FLOAT32),
        "uniform": torch.zeros(rows, **FLOAT32),
    }


class IOBuffers:
    """Host and device side of a batch's inputs and of its sampled ids.

    Args:
        padding: see the function `padding`.
        device: "cuda", or "sim".

    Attributes:
        padding: for each input, its values where no row uses it; ordinary host memory. Both sides start with them.
        host_inputs: the inputs by name, in pinned host memory.
        device_inputs: the same on the device.
        forward_inputs: what the forward reads: `device_inputs`, and from chapter 7 on one tensor more.
        device_ids, host_ids: (rows,) int64, the sampled ids on the device and, pinned, on the host.
        h2d_done, compute_done, d2h_done: events, recorded again for every batch that goes through: the inputs are on
            the device; the sampled ids are in device_ids; they are in host_ids. Chapter 4 puts them to use.
    """

    def __init__(self, padding: dict[str, Tensor], device: str) -> None:
        self.padding = padding
        self.host_inputs: dict[str, Tensor] = {}
        self.device_inputs: dict[str, Tensor] = {}
        self.allocate_inputs(device)
        self.forward_inputs = dict(self.device_inputs)
        rows = padding["block_table"].shape[0]
        self.device_ids = torch.zeros(rows, dtype=torch.int64, device=device)
        self.host_ids = torch.zeros(rows, dtype=torch.int64, device="cpu", pin_memory=True)
        self.h2d_done: Any = accelerator.Event()  # of either accelerator, which have no common class
        self.compute_done: Any = accelerator.Event()
        self.d2h_done: Any = accelerator.Event()

    def allocate_inputs(self, device: str) -> None:
        """Make `host_inputs` and `device_inputs`: for each of `padding` a tensor of its shape, dtype and values."""
        for name, values in self.padding.items():
            # BEGIN SOLUTION 3.1
            self.host_inputs[name] = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
            self.host_inputs[name].copy_(values)
            self.device_inputs[name] = values.to(device)
            # END SOLUTION

    def record_streams(self, *streams: Any) -> None:  # noqa: ANN401 (of either accelerator, without a common class)
        """Tell the allocator which streams use the device's side.

        It knows of the stream only on which the memory was asked for. An engine may be dropped while it has batches in
        flight; without this, its buffers would be given away again at once, and the batches would read and write
        there. (PyTorch's documentation, `torch.Tensor.record_stream`.)
        """
        for tensor in (*self.forward_inputs.values(), self.device_ids):
            for stream in streams:
                tensor.record_stream(stream)

    def name_for(self, batch: int) -> None:
        """From now on the buffers belong to this batch. Only reports of the simulated GPU say so."""
        device_ids, host_ids = {"sampled ids": self.device_ids}, {"sampled ids": self.host_ids}
        for tensors in (self.host_inputs, self.device_inputs, device_ids, host_ids):
            name_tensors(tensors, of=f"the buffers of batch {batch}")

    @property
    def full_decode(self) -> Sizes:
        """The decode step that uses every row of the buffers."""
        rows, width = self.padding["block_table"].shape
        return Sizes(rows, rows, rows, width, num_decode_rows=rows, max_query_length=1, greedy=True)

    def load(self, inputs: BatchInputs) -> None:
        """Host: write a packed batch into the pinned input tensors, and padding behind it."""
        for name, values in inputs.tensors().items():
            write_host(self.host_inputs[name], self.padding[name])
            write_host(self.host_inputs[name], values)

    def copy_in(self) -> None:
        """Queue the copies of all inputs, pinned host to device, on the current stream. The host does not wait."""
        # BEGIN SOLUTION 3.2
        for name, host in self.host_inputs.items():
            self.device_inputs[name].copy_(host, non_blocking=True)
        # END SOLUTION

    def copy_out(self) -> None:
        """Queue the copy of the sampled ids, device to pinned host, on the current stream. The host does not wait."""
        # BEGIN SOLUTION 3.2
        self.host_ids.copy_(self.device_ids, non_blocking=True)
        # END SOLUTION

    def read_ids(self, samples: int) -> Sequence[int]:
        """Host: the sampled ids as they are in the pinned tensor at this moment. Waits for nothing."""
        return self.host_ids[:samples].tolist()


def cut(tensors: Tensors, sizes: Sizes) -> BatchInputs:
    """The batch in its buffers' device tensors, as views: what `sizes` says of each, without the padding behind it."""
    samples = slice(sizes.samples)
    return BatchInputs(
        input_ids=tensors["input_ids"][: sizes.tokens],
        position_ids=tensors["position_ids"][: sizes.tokens],
        slot_mapping=tensors["slot_mapping"][: sizes.tokens],
        query_start_loc=tensors["query_start_loc"][: sizes.rows + 1],
        seq_lens=tensors["seq_lens"][: sizes.rows],
        block_table=tensors["block_table"][: sizes.rows, : sizes.width],
        # Clamped, since in this chapter an older batch may still be there: an index too large would kill CUDA.
        logits_indices=tensors["logits_indices"][samples].clamp_max(sizes.tokens - 1),
        temperature=tensors["temperature"][samples],
        top_k=tensors["top_k"][samples],
        top_p=tensors["top_p"][samples],
        uniform=tensors["uniform"][samples],
        num_decode_rows=sizes.num_decode_rows,
        max_query_length=sizes.max_query_length,
        greedy=sizes.greedy,
    )
