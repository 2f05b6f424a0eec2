"""Indexed operations touch the rows that they name, where the host knows the index; else the whole tensor.

Two streams that write different pages of one cache by index touch different bytes. The rows of an index are those of
one dimension, whatever is read or written within them.
"""

from collections.abc import Sequence

import numpy as np
import torch

from toolkit.simgpu.blocks import Footprint
from toolkit.simgpu.byte_ranges import Region
from toolkit.simgpu.known_values import value_of
from toolkit.simgpu.tensors import SimTensor

_BY_DIMENSION = {  # (tensor, dim, index, ...)
    *("index_select", "gather", "index_copy_", "index_add_", "index_fill_"),
    *("scatter_", "scatter_add_", "scatter_reduce_", "index_reduce_"),
}
_BY_LIST = {"index", "index_put_", "_index_put_impl_"}  # (tensor, [index or None for each dimension], ...)


class Rows(Region):
    """Some rows of a tensor: what is touched in it, by one dimension's index. Its price is that of the whole tensor.

    Args:
        rows: (n,) int64, sorted, without repetitions.
    """

    is_part = True
    __slots__ = ("_extent", "_starts", "dim", "rows", "whole")

    def __init__(self, tensor: torch.Tensor, dim: int, rows: np.ndarray) -> None:
        super().__init__(tensor)
        self.whole, self.dim, self.rows = Region(tensor), dim, rows
        row = Region(tensor.select(dim, 0))
        self._extent = int(row.hi - row.lo)
        self._starts: np.ndarray = int(row.lo) + rows * int(tensor.stride(dim) * tensor.element_size())
        self.lo, self.hi = int(self._starts.min()), int(self._starts.max()) + self._extent
        self.dense = False
        self.key = (*self.whole.key, dim, rows.tobytes())

    def overlaps(self, other: Region) -> bool:
        if self.hi <= other.lo or other.hi <= self.lo or not other.nbytes:
            return False
        if isinstance(other, Rows) and other.whole.key == self.whole.key and other.dim == self.dim:
            return bool(np.isin(self.rows, other.rows).any())
        if isinstance(other, Rows):
            return self._meets(other._starts, other._extent)
        return self._meets(np.array([other.lo]), int(other.hi - other.lo))

    def covers(self, other: Region) -> bool:
        same = isinstance(other, Rows) and other.whole.key == self.whole.key and other.dim == self.dim
        return same and bool(np.isin(other.rows, self.rows).all())  # type: ignore[attr-defined]

    def pieces_in(self, data: torch.Tensor) -> list[torch.Tensor]:
        lo, size, shape, strides = self.whole.key
        at_row = [slice(None)] * len(shape)
        pieces = []
        for row in self.rows.tolist():
            at_row[self.dim] = slice(row, row + 1)
            pieces += [piece[tuple(at_row)] for piece in self.whole.pieces_in(data)]
        return pieces

    def _meets(self, starts: np.ndarray, extent: int) -> bool:
        """Does one of these ranges of bytes meet one of the rows, from first to last byte?"""
        mine = np.sort(self._starts)
        place = np.searchsorted(mine, starts + extent)  # rows from there on begin behind the range
        before = place > 0
        return bool((mine[place[before] - 1] + self._extent > starts[before]).any())


def footprints_of(name: str, args: tuple, tensors: Sequence[torch.Tensor]) -> list[Footprint]:
    """What an operation touches of `tensors` (those of its arguments that it reads, or those that it writes)."""
    indexed = _indexed(name, args)
    found = []
    for each in tensors:
        if indexed is not None and each is args[indexed]:
            region = _rows(name, args)
            found.append(each.footprint() if region is None else each.footprint().narrowed(region))  # type: ignore[attr-defined]
        elif hasattr(each, "footprint"):
            found.append(each.footprint())
    return found


def _indexed(name: str, args: tuple) -> int | None:
    """The place of the argument that an index goes into."""
    known = name in _BY_DIMENSION or name in _BY_LIST or name == "embedding"
    return 0 if known and args and isinstance(args[0], SimTensor) else None


def _rows(name: str, args: tuple) -> Rows | None:
    tensor = args[0]
    if name == "embedding":
        return _rows_of(tensor.buf, 0, args[1])
    if name in _BY_DIMENSION:
        return _rows_of(tensor.buf, args[1], args[2]) if tensor.dim() else None
    given = [place for place, each in enumerate(args[1]) if each is not None]
    return _rows_of(tensor.buf, given[0], args[1][given[0]]) if len(given) == 1 else _leading(tensor.buf, args[1])


def _leading(buf: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> Rows | None:
    """Rows of several leading dimensions seen as one, such as cache[page, offset]."""
    given = [each for each in indices if each is not None]
    sizes = buf.shape[: len(given)]
    values = [value_of(each) for each in given]
    if any(each is None for each in indices[: len(given)]) or any(each is None for each in values):
        return None
    try:
        flat = buf.view(-1, *buf.shape[len(given) :])
    except RuntimeError:
        return None
    place = torch.zeros((), dtype=torch.int64, device="cpu")
    for value, size in zip(values, sizes, strict=True):
        assert value is not None
        if value.dtype == torch.bool:
            return None
        place = place * size + torch.where(value < 0, value + size, value)
    return _rows_from(flat, 0, place)


def _rows_of(buf: torch.Tensor, dim: int, index: torch.Tensor) -> Rows | None:
    values = value_of(index)
    if values is None or values.dtype in (torch.bool, torch.uint8):
        return None
    size = buf.shape[dim]
    return _rows_from(buf, dim % buf.dim(), torch.where(values < 0, values + size, values))


def _rows_from(buf: torch.Tensor, dim: int, places: torch.Tensor) -> Rows | None:
    rows = np.unique(places.numpy())
    if not rows.size or rows[0] < 0 or rows[-1] >= buf.shape[dim] or not buf.numel():
        return None  # out of range: it fails on the device
    return Rows(buf, dim, rows)
