"""Where in the user's code an operation was issued: the first caller outside torch and outside this package.

That line may lie in a helper. A program says once which files matter most to the reader (`report_lines`); of the
lines on the way to an operation, one in such a file is then named first, and the helper's line behind it.
"""

import contextlib
import functools
import linecache
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import ClassVar, NamedTuple

import torch


@functools.cache
def _normal(file: str) -> str:
    """Without "..": a notebook that found a package by a path such as "../.." sees such names in its frames."""
    return os.path.normpath(file)


_SKIPPED = (
    os.path.join(_normal(os.path.dirname(torch.__file__)), ""),
    os.path.join(_normal(os.path.dirname(__file__)), ""),
    contextlib.__file__,
)
_PACKAGES = f"{os.sep}site-packages{os.sep}"
_PASSED_OVER = -1


class _Lines:
    """What `report_lines` was told, and the ranks asked for since: there are many frames and few files."""

    root: str | None = None
    skipped: tuple[str, ...] = _SKIPPED
    rank: Callable[[str], int] = staticmethod(lambda file: 0)
    ranks: ClassVar[dict[str, int]] = {}  # by the file's name in a frame
    issued_for: "Site | None" = None


def report_lines(
    root: str | os.PathLike[str], rank: Callable[[str], int], skip: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Say how lines of source are named in reports.

    Args:
        root: files below this folder are named by their path from it (by default: the current folder).
        rank: for a file's absolute path, how much the reader cares about it; 0 for most. Of the lines on the way to an
            operation, the one in the file of the highest rank is named first (of several: the innermost). Asked once
            for each file and run.
        skip: folders with helpers that stand between the user and this package; lines in them are passed over.
    """
    _Lines.skipped = (*_SKIPPED, *(os.path.join(os.path.abspath(folder), "") for folder in skip))
    _Lines.root, _Lines.rank = os.path.abspath(root), staticmethod(rank)
    forget_ranks()


def forget_ranks() -> None:
    """Ask for them again."""
    _Lines.ranks.clear()


class Site(NamedTuple):
    """A line of source. The text of the line is only looked up when somebody prints it.

    Attributes:
        file, line: the line to look at first.
        inner: (file, line) that called into torch or the simulator, where that is another one.
    """

    file: str
    line: int
    inner: tuple[str, int] | None = None

    @property
    def first_line(self) -> str:
        """The line to look at first, with its text."""
        return _line(self.file, self.line)

    @property
    def short(self) -> str:
        """The line to look at first, without its text."""
        return f"{_name(self.file)}:{self.line}"

    def __str__(self) -> str:
        return self.first_line if self.inner is None else f"{self.first_line}\n      inside: {_line(*self.inner)}"


@contextlib.contextmanager
def issued_for(site: Site) -> Iterator[None]:
    """Name this line for what is issued meanwhile by a thread of torch's own, which has none."""
    before, _Lines.issued_for = _Lines.issued_for, site
    try:
        yield
    finally:
        _Lines.issued_for = before


def _line(file: str, line: int) -> str:
    source = linecache.getline(file, line).strip()
    return f"{_name(file)}:{line}  `{source}`" if source else f"{_name(file)}:{line}"


def _name(file: str) -> str:
    """The path from the root, from the folder of installed packages, or in full."""
    if "ipykernel" in file:
        return "notebook cell"
    root = os.path.join(_Lines.root or os.getcwd(), "")
    if _PACKAGES in file:
        shown = file.rpartition(_PACKAGES)[2]
    else:
        shown = file.removeprefix(root)
    return shown.replace(os.sep, "/")


def caller_site() -> Site:
    """The line that called into torch or the simulator (or, in a worker thread without one, the outermost line)."""
    frame: FrameType | None = sys._getframe(1)
    inner = best = None
    ranks, highest = _Lines.ranks, _PASSED_OVER
    while frame is not None:
        name = frame.f_code.co_filename
        rank = ranks.get(name)
        if rank is None:
            rank = ranks[name] = _rank(_normal(name))
        if rank > highest:
            inner, best, highest = inner or frame, frame, rank
        outermost, frame = frame, frame.f_back
    if best is None or inner is None:
        if _Lines.issued_for is not None:
            return _Lines.issued_for
        return Site(_normal(outermost.f_code.co_filename), outermost.f_lineno)
    site = Site(_normal(best.f_code.co_filename), best.f_lineno)
    return site if best is inner else site._replace(inner=(_normal(inner.f_code.co_filename), inner.f_lineno))


def _rank(file: str) -> int:
    return _PASSED_OVER if file.startswith(_Lines.skipped) else _Lines.rank(file)
