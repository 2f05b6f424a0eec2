"""Ends what never ends: by a count of steps, which is the same on a slow machine, not by the clock."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from toolkit.choice import MINE
from toolkit.course import ROOT

_CHAPTERS = tuple(str(ROOT / folder / "ch") for folder in (MINE, "solutions"))


@contextmanager
def must_end(lines: int = 200_000) -> Iterator[None]:
    """Fail as soon as the chapters' code has executed so many lines in this thread.

    Counts what Python's trace function sees. Where another one is at work already, a debugger's or that of a coverage
    measurement, this does nothing.
    """
    if sys.gettrace() is not None:
        yield
        return
    left = lines

    def count(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        left -= event == "line"
        if left < 0:
            place = f"{os.path.relpath(frame.f_code.co_filename, ROOT)}:{frame.f_lineno}"
            pytest.fail(
                f"a loop does not end: {lines:,} lines of the chapters' code were executed, far more than this test "
                f"needs. It was stopped in {frame.f_code.co_qualname}, {place}"
            )
        return count

    def enter(frame: FrameType, _event: str, _: object) -> object:
        return count if frame.f_code.co_filename.startswith(_CHAPTERS) else None

    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(None)
