"""The two kinds of tensor whose memory is watched: on the simulated GPU, and in pinned host memory.

Both are shells without data of their own. `.buf` is a plain CPU tensor over the block's bytes, which only the
simulator touches; every torch operation on the shell arrives in `dispatch.run`, autograd and composite operations
resolved.
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch

from toolkit.simgpu import place
from toolkit.simgpu.blocks import Block, Footprint
from toolkit.simgpu.memory import Allocation
from toolkit.simgpu.refusals import Refusals
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.streams import Stream


class Shell(Refusals, torch.Tensor):
    """What both kinds share. `allocation` is None for a temporary in a launched function, which no other may see."""

    DEVICE: str
    buf: torch.Tensor
    allocation: "Allocation | Block | None"
    run_operation: ClassVar[Callable[[torch._ops.OpOverload, tuple, dict], Any]]  # dispatch.run, given by `register`
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: type["Shell"], buf: torch.Tensor, allocation: "Allocation | Block | None") -> "Shell":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            buf.shape,
            strides=buf.stride(),
            storage_offset=buf.storage_offset(),
            dtype=buf.dtype,
            device=torch.device(cls.DEVICE),
        )

    def __init__(self, buf: torch.Tensor, allocation: "Allocation | Block | None") -> None:
        self.buf, self.allocation = buf, allocation
        self._footprint: Footprint | None = None

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: torch._ops.OpOverload, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> Any:  # noqa: ANN401 (an operation may return anything)
        return Shell.run_operation(func, args, kwargs or {})

    def footprint(self) -> Footprint:
        """The bytes that an operation on this tensor touches."""
        if self._footprint is None:
            if self.allocation is None:
                raise RuntimeError(
                    "a temporary tensor of a launched function was used outside of it; write into an output"
                )
            block = self.allocation.block if isinstance(self.allocation, Allocation) else self.allocation
            self._footprint = Footprint(block, self.buf)
        return self._footprint

    def view_of_same_memory(self, buf: torch.Tensor) -> "Shell":
        # A view is of its base's kind: of an ordinary tensor it is an ordinary one, in inference mode too.
        if torch.is_inference_mode_enabled() == self.is_inference():
            return type(self)(buf, self.allocation)
        with torch.inference_mode(self.is_inference()):
            return type(self)(buf, self.allocation)

    @property  # type: ignore[override]
    def data(self) -> "Shell":
        """As torch.Tensor.data. Assigning to it, as `module.half()` does, gives the tensor the other one's memory."""
        return self.detach()  # type: ignore[return-value]

    @data.setter
    def data(self, other: "Shell") -> None:
        torch._C.TensorBase.data.__set__(self, other)  # type: ignore[attr-defined]
        self.buf, self.allocation, self._footprint = other.buf, other.allocation, None

    def see_as(self, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> None:
        """Follow an in-place change of the shell's shape."""
        self.buf, self._footprint = self.buf.as_strided(shape, strides, offset), None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shell":
        if id(self) not in memo:
            twin = self.detach().clone().requires_grad_(self.requires_grad)
            twin.__dict__.update({key: value for key, value in self.__dict__.items() if key == "_is_param"})
            memo[id(self)] = twin
        return memo[id(self)]

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def data_ptr(self) -> int:
        """The address of the first element. A graph is bound to it."""
        return self.buf.data_ptr()


class SimTensor(Shell):
    """A tensor in the simulated GPU's memory."""

    DEVICE = "sim:0"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """As it is called now: in a program that `as_cuda` runs, "cuda:0"."""
        return torch.device(place.name())

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return place.type_name() == "cuda"

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:  # noqa: ANN401 (as torch.Tensor.tolist)
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:  # noqa: ANN401 (as torch.Tensor.numpy)
        if force:
            return self.detach().cpu().numpy()
        raise TypeError(
            f"can't convert a {self.device} tensor to numpy. Use Tensor.cpu() to copy it to the host first."
        )

    def record_stream(self, stream: Stream) -> None:  # type: ignore[override]
        """Tell the allocator that `stream` uses this tensor: once freed, its memory waits for what is queued there.

        Ignored for the stream that allocated it, which may reuse the memory anyway.
        """
        allocation = self.allocation
        if isinstance(allocation, Allocation) and stream not in (allocation.stream, *allocation.streams):
            allocation.streams.append(stream)

    def __repr__(self) -> str:  # type: ignore[override]
        return repr(self.detach().cpu()).removesuffix(")") + f", device='{self.device}')"


class PinnedTensor(Shell):
    """A tensor in page-locked host memory. It is an ordinary CPU tensor to its users, but what the host does with it
    is checked against the copies in flight."""

    DEVICE = "cpu"

    def tolist(self) -> Any:  # noqa: ANN401 (as torch.Tensor.tolist)
        runtime.host_touch("tolist", [self.footprint()], [])
        return self.buf.tolist()

    def numpy(self, *, force: bool = False) -> Any:  # noqa: ANN401 (as torch.Tensor.numpy)
        raise self._refusal("numpy() of a pinned tensor")

    def is_pinned(self, device: object = None) -> bool:
        return True

    def record_stream(self, stream: Stream) -> None:  # type: ignore[override]
        """Nothing to do: pinned memory is not reused here."""

    def __repr__(self) -> str:  # type: ignore[override]
        runtime.host_touch("repr", [self.footprint()], [])
        return repr(self.buf)


def footprints(tensors: Iterable[torch.Tensor]) -> list[Footprint]:
    """What an operation on these tensors touches, ordinary CPU tensors aside."""
    return [each.footprint() for each in tensors if isinstance(each, Shell)]
