"""Words that the messages of checks share: a number with its noun, what an engine has left to do, a missing refusal."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


def counted(number: int, one: str, many: str = "") -> str:
    """Such as "1 batch is" or "2 batches are". Without `many`, the plural is `one` with an s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def work_left(engine: Any) -> str:
    """Such as "2 requests wait, 1 runs, 1 batch is in flight"."""
    waiting = counted(len(engine.scheduler.waiting), "request waits", "requests wait")
    running = counted(len(engine.scheduler.running), "runs", "run")
    return f"{waiting}, {running}, {counted(len(engine.in_flight), 'batch is', 'batches are')} in flight"


@contextmanager
def must_raise(error: type[Exception], words: str, otherwise: str) -> Iterator[None]:
    """Inside, an error with these words has to come, in capitals or not. If none comes the test fails: `otherwise`."""
    try:
        yield
    except error as raised:
        assert re.search(words, str(raised), re.IGNORECASE), (
            f"{type(raised).__name__} came, as it should, but its text does not say {words!r}: {raised}"
        )
        return
    pytest.fail(otherwise)
