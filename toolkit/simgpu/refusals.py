"""What a watched tensor refuses: every way to its bytes that no check would see, and what is not modelled at all."""

from typing import Any


class Refusals:
    """A part of `tensors.Shell`. `DEVICE` is "cpu" for pinned memory."""

    DEVICE: str

    def _refusal(self, what: str) -> NotImplementedError:
        """For code that asks for the bytes: whatever is done with them would go unchecked."""
        copy = ".clone()" if self.DEVICE == "cpu" else ".cpu()"
        return NotImplementedError(
            f"simgpu: {what} would escape the race detector; use tensor operations, .tolist(), or {copy} for an "
            "ordinary tensor with what it holds now"
        )

    def __dlpack__(self, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 (as torch.Tensor.__dlpack__)
        raise self._refusal("DLPack")

    def __dlpack_device__(self) -> Any:  # noqa: ANN401 (as torch.Tensor.__dlpack_device__)
        raise self._refusal("DLPack")

    @property
    def __cuda_array_interface__(self) -> Any:  # noqa: ANN401 (as torch.Tensor.__cuda_array_interface__)
        raise self._refusal("a tensor's address")

    def untyped_storage(self) -> Any:  # noqa: ANN401 (as torch.Tensor.untyped_storage)
        raise self._refusal("a tensor's storage")

    _typed_storage = storage = untyped_storage

    def apply_(self, callable: object) -> Any:  # noqa: ANN401, A002 (as torch.Tensor.apply_)
        raise self._refusal("apply_()")

    def is_shared(self) -> bool:
        """As torch answers it, without a look at the storage: device memory counts as shared between processes."""
        return self.DEVICE != "cpu"

    def share_memory_(self) -> Any:  # noqa: ANN401 (as torch.Tensor.share_memory_)
        raise NotImplementedError("simgpu: share_memory_(), memory shared between processes")

    def __reduce_ex__(self, protocol: object) -> Any:  # noqa: ANN401 (as object.__reduce_ex__)
        copy = "tensor.cpu() for device, .clone() for pinned memory"
        raise NotImplementedError(
            f"simgpu: pickling, torch.save in the format before 1.6 or outside of as_cuda; use {copy}"
        )
