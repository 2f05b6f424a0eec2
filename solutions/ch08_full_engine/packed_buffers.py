"""All inputs of a batch in one piece of memory: one copy to the device instead of a dozen.

A few kilobytes take the copy engine hardly any time. But every copy that is queued costs the host some microseconds,
and with a dozen of them that is a good part of what a step costs it. So host and device side are one buffer each, laid
out alike, and the inputs by name are views of it. Everything else about IO buffers stays as it is.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ch02_continuous_batching import BatchInputs
from ch02_continuous_batching.batch import host_tensor
from ch03_streams import IOBuffers
from toolkit.device import write_host

ALIGNMENT = 64  # bytes; each input begins at a multiple of it


def num_bytes(tensors: Mapping[str, Tensor]) -> int:
    """The size of a buffer that has room for all of `tensors`."""
    return sum(-(-tensor.nbytes // ALIGNMENT) * ALIGNMENT for tensor in tensors.values())


def views(buffer: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parts of a buffer, (num_bytes(like),) uint8, one behind the other, with names, shapes and dtypes of `like`."""
    parts: dict[str, Tensor] = {}
    start = 0
    for name, tensor in like.items():
        parts[name] = buffer[start : start + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        start += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return parts


class PackedBuffers(IOBuffers):
    """IO buffers whose inputs lie in one piece of memory on either side.

    Attributes:
        padding_buffer, host_buffer, device_buffer: (bytes,) uint8; the second one is pinned. `padding`, `host_inputs`
            and `device_inputs` are views of them.
    """

    def allocate_inputs(self, device: str) -> None:
        separate = self.padding
        self.padding_buffer = torch.zeros(num_bytes(separate), dtype=torch.uint8, device="cpu")
        self.padding = views(self.padding_buffer, separate)
        for name, values in separate.items():
            self.padding[name].copy_(values)
        self.host_buffer = torch.empty(self.padding_buffer.shape, dtype=torch.uint8, device="cpu", pin_memory=True)
        self.host_buffer.copy_(self.padding_buffer)
        self.host_inputs = views(self.host_buffer, separate)
        self.device_buffer = self.padding_buffer.to(device)
        self.device_inputs = views(self.device_buffer, separate)

    def load(self, inputs: BatchInputs) -> None:
        """As in chapter 3. Where prompts are among the rows, those beyond the batch have no token (step_graphs.py)."""
        write_host(self.host_buffer, self.padding_buffer)
        for name, values in inputs.tensors().items():
            write_host(self.host_inputs[name], values)
        rows = inputs.seq_lens.shape[0]
        if inputs.num_decode_rows < rows:
            rest = self.host_inputs["query_start_loc"][rows + 1 :]
            write_host(rest, host_tensor([inputs.input_ids.shape[0]] * len(rest), np.int32))

    def copy_in(self) -> None:
        self.device_buffer.copy_(self.host_buffer, non_blocking=True)
