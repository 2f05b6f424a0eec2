"""Two threads on one object, with the second one let in at any moment of the first one's function.

Python may change threads between any two of its instructions. A function that another thread can come between is tried
with that thread coming in before its first instruction, before its second, and so on.
"""

import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

PATIENCE = 0.05  # seconds that the second thread gets; it may have to wait for a lock that the first one holds


def let_in(function: Callable[[], object], code: CodeType, moment: int, other: Callable[[], object]) -> bool:
    """Run `function`, with `other` in a thread of its own before that instruction of `code`, counted from 0.

    Returns False if `code` has no such instruction, or does not come so far; then `other` has not run.
    """
    thread = threading.Thread(target=other)
    passed = -1

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal passed
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            passed += 1
            if passed == moment:
                thread.start()
                thread.join(PATIENCE)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    if thread.ident is None:
        return False
    thread.join()
    return True
