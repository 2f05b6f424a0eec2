"""A whole function as one operation, which declares what it reads and writes.

A forward pass dispatched operation by operation costs the simulator more than the arithmetic; and before CUDA
graphs, it costs a real GPU its launches. This is one launch. The function works on plain CPU tensors at
full speed.
"""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from toolkit.simgpu.blocks import Block, Footprint
from toolkit.simgpu.errors import CaptureError
from toolkit.simgpu.kernels import to_buffer
from toolkit.simgpu.names import label
from toolkit.simgpu.runtime import runtime
from toolkit.simgpu.schemas import Schema, map_tensors, tensors_in
from toolkit.simgpu.streams import current_stream
from toolkit.simgpu.tensors import Shell, SimTensor, footprints


def launch(
    name: str,
    fn: Callable[..., object],
    reads: Sequence[torch.Tensor] = (),
    writes: Sequence[torch.Tensor] = (),
    cost_ms: float | None = None,
) -> None:
    """Queue `fn(*reads, *writes)` on the current stream as one operation.

    Args:
        name: for messages and timelines.
        fn: called once, when the operation runs, with plain CPU tensors over the memory of `reads` and `writes`, in
            that order; it leaves its results in those of `writes`. What it returns is ignored. It must not wait for
            the device.
        reads: device or pinned tensors that it reads only. If it writes one of them, the operation fails.
        writes: device or pinned tensors that it writes (and may read).
        cost_ms: time it takes on the virtual clock; by default from the bytes of `reads` and `writes`.

    Raises:
        RaceError: as for any operation. Device tensors that `fn` reaches without declaring them make the operation
        fail.
    """
    for each in (*reads, *writes):
        if not isinstance(each, Shell):
            raise TypeError(f"launch {name!r}: reads and writes must be device or pinned tensors, not {type(each)}")
    read, written = footprints(reads), footprints(writes)
    declared = {each.block: False for each in read} | {each.block: True for each in written}
    sources = [(each.buf, each.footprint()) for each in reads if isinstance(each, Shell)]
    targets = [to_buffer(each) for each in writes]

    def work() -> None:
        kept = [_ReadOnly(buffer, footprint, written) for buffer, footprint in sources]
        with _running(declared):
            fn(*(each.buffer for each in kept), *targets)
        for each in kept:
            each.check(name)

    runtime.launch(current_stream(), name, work, read, written, cost_ms=cost_ms)


def sleep(ms: float) -> None:
    """Keep the current stream busy for `ms`, and no engine: widens a race, as torch.cuda._sleep does."""

    def work() -> None:
        if runtime.policy_name == "threads":
            time.sleep(ms / 1000)

    runtime.launch(current_stream(), "sleep", work, [], [], engine="none", cost_ms=ms)


def plain_module(module: torch.nn.Module) -> torch.nn.Module:
    """A twin of a module on the device whose parameters are plain CPU tensors over the same memory, for use in a
    launched function."""
    memo: dict[int, Any] = {}
    for each in (*module.parameters(), *module.buffers()):
        twin = to_buffer(each).detach()
        memo[id(each)] = torch.nn.Parameter(twin, False) if isinstance(each, torch.nn.Parameter) else twin
    return copy.deepcopy(module, memo)


class _ReadOnly:
    """A tensor that a launched function declares as read, and whether it has kept to it.

    torch counts what it writes through a tensor and its views, so the function gets a plain tensor of its own. Other
    ways to write (numpy, a C library) are seen if they change the bytes, except those that it declares as written too.
    With a thread per stream a change may be another operation's, in a race that is reported as such: then only the
    count is asked.
    """

    def __init__(self, buf: torch.Tensor, read: Footprint, written: Sequence[Footprint]) -> None:
        self._read = read
        with torch.inference_mode(False):
            empty = torch.empty(0, dtype=buf.dtype, device="cpu")
            self.buffer = empty.set_(buf.untyped_storage(), buf.storage_offset(), buf.shape, buf.stride())
            self._version = self.buffer._version
        self._bytes = self._read.region.bytes_in(self._read.block.data)
        self._before = self._bytes.clone()
        self._written = [each.region for each in written if each.block is self._read.block]

    def check(self, function: str) -> None:
        if self.buffer._version != self._version or self._has_changed():
            raise RuntimeError(
                f"{function!r} writes {label(self._read)}, which it declares as read only: name it in writes=, so that "
                "other streams' work on it is checked"
            )

    def _has_changed(self) -> bool:
        if runtime.policy_name == "threads":
            return False
        changed = self._before != self._bytes
        if self._written:
            permitted = torch.zeros(self._read.block.data.shape, dtype=torch.bool, device="cpu")
            for region in self._written:
                region.bytes_in(permitted).fill_(True)
            changed &= ~self._read.region.bytes_in(permitted)
        return bool(changed.any())


@contextmanager
def _running(declared: dict[Block, bool]) -> Iterator[None]:
    runtime.launched.declared = declared
    try:
        yield
    finally:
        runtime.launched.declared = None


def run_in_launch(func: torch._ops.OpOverload, schema: Schema, args: tuple, kwargs: dict) -> Any:  # noqa: ANN401
    """An operation on device tensors that a launched function has reached: done at once, if it was declared."""
    written = list(tensors_in(schema.written_arguments(args, kwargs)))
    shells = [each for each in tensors_in((args, kwargs)) if isinstance(each, Shell)]
    for each in shells:
        writes = any(each is target for target in written)
        if each.allocation is not None and runtime.launched.declared.get(each.footprint().block, None) not in (
            True,
            writes,
        ):
            raise RuntimeError(
                f"{schema.name} {'writes' if writes else 'reads'} {label(each.footprint())} that its function "
                "does not declare: name it in reads= or writes=, and use the tensor that the function is given"
            )
    to_cpu = schema.name == "_to_copy" and torch.device(kwargs.get("device") or "sim").type == "cpu"
    if schema.name == "item" or to_cpu:
        raise CaptureError("operation not permitted in a launched function: it makes the host wait")
    buffers, keywords = map_tensors(to_buffer, (args, kwargs))
    if keywords.get("device") is not None:
        keywords["device"] = "cpu"
    result = func(*buffers, **keywords)

    def shell(value: torch.Tensor) -> torch.Tensor:
        same = next((each for each in shells if each.buf is value), None)
        if same is not None:
            return same
        return shells[0].view_of_same_memory(value) if schema.view else SimTensor(value, None)

    return map_tensors(shell, result)
