"""IO buffers that take the persistent batch as it is: one copy in, and the ids out as an array."""

from ch02_continuous_batching.batch import BatchInputs
from ch08_full_engine import PackedBuffers
from ch09_persistent_batch.array_batch import ArrayInputs
from ch09_persistent_batch.seats import Array
from toolkit.device import write_host


class PersistentBuffers(PackedBuffers):
    """Chapter 8's, loaded from a piece of memory of the same layout."""

    def load(self, inputs: ArrayInputs | BatchInputs) -> None:
        """Host: copy the whole piece, padding included. From then on the packer may write the next step."""
        assert isinstance(inputs, ArrayInputs)
        write_host(self.host_buffer, inputs.buffer)

    def read_ids(self, samples: int) -> Array:  # type: ignore[override] # a list in chapter 3
        ids: Array = self.host_ids[:samples].clone().numpy()
        return ids
