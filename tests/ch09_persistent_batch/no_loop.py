"""Tells a loop over rows from array operations: by the lines that Python runs, as many on every machine.

Calls, which test_growth.py counts for whole steps, would not do for a single function: an entry of an array is read and
written without one.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ch09_persistent_batch import Seats

FEW, MANY = 16, 256


def lines_run(call: Callable[[], object]) -> int:
    """The lines of Python that a call runs. Each turn of a loop counts again, in a comprehension too."""
    lines = 0

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal lines
        lines += event in ("call", "line")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines


def has_no_loop(name: str, prepared: Callable[[int], Callable[[], object]]) -> None:
    """`prepared(n)` is a call of the function `name` for n rows. With more rows it must not run more lines."""
    few, many = (lines_run(prepared(rows)) for rows in (FEW, MANY))
    assert many - few < (MANY - FEW) / 2, (
        f"for {FEW} rows {name} runs {few} lines of Python, for {MANY} rows {many}: a loop over the rows, or a "
        "comprehension. Index with whole arrays instead, so that each operation is for all rows at once"
    )


def many_seats(rows: int, **columns: int) -> tuple[Seats, np.ndarray]:
    """So many seats, all in the same state, and their numbers in some order."""
    seats = Seats(rows, max_length=32, width=8)
    for name, value in columns.items():
        getattr(seats, name)[:] = value
    return seats, np.random.default_rng(0).permutation(rows)
