"""Where in the learner's code an operation was issued: the first caller outside torch and outside the toolkit."""

import contextlib
import linecache
import os
import sys
from types import FrameType
from typing import NamedTuple

import torch

_SKIPPED = (
    os.path.dirname(torch.__file__) + os.sep,
    os.path.dirname(os.path.dirname(__file__)) + os.sep,
    contextlib.__file__,
)


class Site(NamedTuple):
    """A line of source. The text of the line is only looked up when somebody prints it."""

    file: str
    line: int

    def __str__(self) -> str:
        name = "notebook cell" if "ipykernel" in self.file else os.path.basename(self.file)
        source = linecache.getline(self.file, self.line).strip()
        return f"{name}:{self.line}  `{source}`" if source else f"{name}:{self.line}"


def caller_site() -> Site:
    """The line that called into torch or the simulator (or, in a worker thread without one, the outermost line)."""
    frame: FrameType = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_SKIPPED) and frame.f_back is not None:
        frame = frame.f_back
    return Site(frame.f_code.co_filename, frame.f_lineno)
