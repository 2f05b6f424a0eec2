"""Where in the learner's files something happened, read from file names and from what faulthandler prints."""

import re
from pathlib import Path

# A thread whose innermost frame lies in one of these files sleeps there.
WAITING = ("threading.py", "queue.py", "selectors.py", "thread.py", "connection.py")


def place_in(folder: str, root: Path, file: str, line: int) -> str:
    """Such as "chapters/ch02_continuous_batching/scheduler.py:41"; "" for a file that is not in that folder."""
    path = Path(file)
    return f"{path.relative_to(root).as_posix()}:{line}" if path.is_relative_to(root / folder) else ""


def innermost_in(folder: str, root: Path, dump: str, computing: bool) -> str:
    """The innermost line of a folder's files that some thread was at when faulthandler wrote `dump`, or "".

    Args:
        dump: the stacks of all threads, each with its innermost frame first. The main thread, which runs the tests, is
            the last one.
        computing: prefer a thread that does not sleep in one of Python's own waiting functions.
    """
    stacks = [re.findall(r'File "([^"]+)", line (\d+)', stack) for stack in dump.split("(most recent call first):")[1:]]
    stacks = [stack for stack in reversed(stacks) if stack]
    if computing:
        stacks.sort(key=lambda stack: stack[0][0].endswith(WAITING))
    places = (place_in(folder, root, file, int(line)) for stack in stacks for file, line in stack)
    return next((place for place in places if place), "")
