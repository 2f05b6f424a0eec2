"""Where in the learner's code an operation was issued: the first caller outside torch and outside the toolkit."""

import contextlib
import functools
import linecache
import os
import re
import sys
from types import FrameType
from typing import NamedTuple

import torch

_SKIPPED = (
    os.path.dirname(torch.__file__) + os.sep,
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    contextlib.__file__,
)


_CHAPTER = re.compile(r"[\\/]ch(\d\d)_\w+[\\/]\w+\.py$")


class Site(NamedTuple):
    """A line of source. The text of the line is only looked up when somebody prints it.

    Attributes:
        file, line: the line that called into torch or the toolkit.
        caller: where it was called from in a later chapter of the course, if it was: there the learner is at work.
    """

    file: str
    line: int
    caller: tuple[str, int] | None = None

    def __str__(self) -> str:
        text = _line(self.file, self.line)
        return text if self.caller is None else f"{text}\n      called at {_line(*self.caller)}"


def _line(file: str, line: int) -> str:
    name = "notebook cell" if "ipykernel" in file else os.path.basename(file)
    source = linecache.getline(file, line).strip()
    return f"{name}:{line}  `{source}`" if source else f"{name}:{line}"


def caller_site() -> Site:
    """The line that called into torch or the simulator (or, in a worker thread without one, the outermost line)."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED) and frame.f_back is not None:
        frame = frame.f_back
    assert frame is not None
    site = Site(frame.f_code.co_filename, frame.f_lineno)
    chapter = _chapter(site.file)
    if not chapter:
        return site
    caller = None
    while (frame := frame.f_back) is not None:
        if (number := _chapter(frame.f_code.co_filename)) > chapter:
            chapter, caller = number, (frame.f_code.co_filename, frame.f_lineno)
    return site._replace(caller=caller)


@functools.cache
def _chapter(file: str) -> int:
    """The number of the chapter that a file belongs to; 0 for any other file, and for chapter 0."""
    found = _CHAPTER.search(file)
    return int(found[1]) if found else 0
