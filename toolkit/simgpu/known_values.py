"""What the host knows of the values in small integer tensors on the device, without waiting for them.

An index that the host has just copied there, and what simple operations made of it, is known although the copy has not
run: in a program without races a read gets what the program wrote last. So indexed operations are checked by the rows
that they touch (see rows.py). Nothing is known of what a graph writes, nor of anything large.
"""

from collections.abc import Sequence

import torch

from toolkit.simgpu.blocks import Block
from toolkit.simgpu.known_bytes import KnownBytes
from toolkit.simgpu.schemas import map_tensors, tensors_in
from toolkit.simgpu.tensors import Shell

_MOST_BYTES = 1 << 16
_OVERWRITES = ("copy_", "fill_", "zero_")  # what was there before does not matter


def value_of(tensor: torch.Tensor) -> torch.Tensor | None:
    """The values of a tensor, on the CPU; None if the host does not know them. An ordinary tensor's are its own."""
    if not isinstance(tensor, Shell):
        return tensor
    if tensor.allocation is None:
        return None
    footprint = tensor.footprint()
    known = footprint.block.known
    if known is None or not all(bool(piece.all()) for piece in footprint.region.pieces_in(known.mask)):
        return None
    return _over(known.data, tensor.buf)


def remember(tensor: torch.Tensor, values: torch.Tensor) -> None:
    """The tensor will hold these values once what has been queued has run."""
    if not _is_kept(tensor):
        return
    assert isinstance(tensor, Shell)
    footprint = tensor.footprint()
    known = _of(footprint.block)
    _over(known.data, tensor.buf).copy_(values)
    for piece in footprint.region.pieces_in(known.mask):
        piece.fill_(True)


def foresee(
    func: torch._ops.OpOverload, name: str, args: tuple, kwargs: dict, targets: Sequence[torch.Tensor]
) -> list[torch.Tensor] | None:
    """What an operation will write into `targets`, if all that it reads is known.

    Args:
        args, kwargs: as the operation is called; those that it writes are among them, or it returns new tensors.
    """
    if not targets or not all(map(_is_kept, targets)):
        return None
    values = {}
    for each in tensors_in((args, kwargs)):
        blank = name in _OVERWRITES and any(each is target for target in targets)
        value = torch.zeros_like(each.buf) if blank and isinstance(each, Shell) else value_of(each)
        if value is None:
            return None
        values[id(each)] = value.clone()
    try:
        with torch.inference_mode(False), torch.no_grad():
            args, kwargs = map_tensors(lambda each: values[id(each)], (args, kwargs))
            return tensors_in(func(*args, **kwargs))
    except (RuntimeError, IndexError):  # it will fail on the device too, and is reported there
        return None


def _is_kept(tensor: torch.Tensor) -> bool:
    integers = not (tensor.dtype.is_floating_point or tensor.dtype.is_complex)
    return isinstance(tensor, Shell) and tensor.allocation is not None and integers and tensor.nbytes <= _MOST_BYTES


def _of(block: Block) -> KnownBytes:
    if block.known is None:
        block.known = KnownBytes(block.nbytes)
    return block.known


def _over(data: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A tensor of the geometry of `like` over other bytes."""
    with torch.inference_mode(False):
        empty = torch.empty(0, dtype=like.dtype, device="cpu")
        return empty.set_(data.untyped_storage(), like.storage_offset(), like.shape, like.stride())
