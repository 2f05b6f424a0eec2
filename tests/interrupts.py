"""Raising an exception at a chosen line of the chapters' code while an engine makes a step.

Ctrl-C comes at any line. So a test first notes every line that a step executes, then repeats the run for each of them
and raises when that line is reached for the first time in the same step.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from toolkit.choice import MINE
from toolkit.course import ROOT

Line = tuple[CodeType, int]


def is_chapters(code: CodeType) -> bool:
    path = Path(code.co_filename)
    return path.is_relative_to(ROOT / "solutions") or path.is_relative_to(ROOT / MINE)


@contextmanager
def at_each_line(seen: Callable[[Line], None]) -> Iterator[None]:
    """Inside, `seen` is called before each line of the chapters' code; what it raises is raised at that line."""

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if not is_chapters(frame.f_code):
            return None
        if event == "line":
            seen((frame.f_code, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def always() -> bool:
    return True


def lines_of(step: Callable[[], object], when: Callable[[], bool] = always) -> list[Line]:
    """The distinct lines that `step` executes while `when` says so, in the order in which it reaches them."""
    lines: dict[Line, None] = {}
    with at_each_line(lambda line: lines.setdefault(line) if when() else None):
        step()
    return list(lines)


def in_a_generator(step: Callable[[], object]) -> Iterator[None]:
    """Run `step` when asked for the first value.

    Where the last line of a `with` or an `except` is interrupted, Python leaves the exception that was handled there in
    `sys.exc_info()`, long after (seen with 3.11). A generator has an exc_info of its own, in which it stays.
    """
    step()
    yield


def interrupt(step: Callable[[], object], line: Line, error: BaseException, when: Callable[[], bool] = always) -> bool:
    """Run `step` and raise `error` once, at this line, `when` it says so. Returns whether that ended the step."""
    raised = False

    def seen(reached: Line) -> None:
        nonlocal raised
        if reached == line and not raised and when():
            raised = True
            raise error

    try:
        with at_each_line(seen):
            next(in_a_generator(step))
    except type(error):
        return True
    assert raised, f"the line was not reached a second time: {line}"
    return False
