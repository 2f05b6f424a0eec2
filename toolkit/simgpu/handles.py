"""What a stream or an event of torch tells about itself, and the raw handles that it has none of."""

from typing import Any

import torch

from toolkit.simgpu import place


class Described:
    """A part of Stream and Event."""

    device_index = 0

    @property
    def device(self) -> torch.device:
        return torch.device(place.name())

    def _refused(self) -> Any:  # noqa: ANN401 (an integer on CUDA)
        raise NotImplementedError(
            "simgpu: the raw handle of a stream or event; what is done with it would escape the race detector"
        )

    cuda_stream = cuda_event = native_handle = event_id = property(_refused)
    ipc_handle = from_ipc_handle = _refused
