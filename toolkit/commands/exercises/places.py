"""Where in the learner's files something happened, read from file names and from what faulthandler prints."""

import re
from collections.abc import Sequence
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.exercises.metadata import load
from toolkit.commands.learner.folder import edited_modules

# A thread whose innermost frame lies in one of these files sleeps there.
WAITING = ("threading.py", "queue.py", "selectors.py", "thread.py", "connection.py")


def place_in(folder: str, root: Path, file: str, line: int) -> str:
    """Such as "my/ch02_continuous_batching/scheduler.py:41"; "" for a file that is not in that folder."""
    path = Path(file)
    return f"{path.relative_to(root).as_posix()}:{line}" if path.is_relative_to(root / folder) else ""


def learners_place(places: Sequence[str], exercise: str, root: Path) -> str:
    """The line to show a learner of those that a call went through, or "" if none is theirs.

    It is in the exercise's own file where that is on the way; a line further in, in another file that they have edited,
    is named behind it. A file of my/ that is as it was shipped is not theirs.

    Args:
        places: the innermost first.
        exercise: its id, or "" for a test without one.
    """
    if not places:
        return ""
    exercises = load(root)
    own = exercises[exercise].path if exercise in exercises else ""
    edited = {f"{MINE}/{name}" for name in edited_modules(root)}
    theirs = [place for place in places if place.rpartition(":")[0] in {own, *edited}]
    first = next((place for place in theirs if place.startswith(f"{own}:")), "")
    if first and first != theirs[0]:
        return f"{first}, and further in: {theirs[0]}"
    return theirs[0] if theirs else ""


def places_in(folder: str, root: Path, dump: str, computing: bool) -> list[str]:
    """The lines of a folder's files that some thread was at when faulthandler wrote `dump`, the innermost first.

    Args:
        dump: the stacks of all threads, each with its innermost frame first. The main thread, which runs the tests, is
            the last one.
        computing: prefer a thread that does not sleep in one of Python's own waiting functions.
    """
    stacks = [re.findall(r'File "([^"]+)", line (\d+)', stack) for stack in dump.split("(most recent call first):")[1:]]
    stacks = [stack for stack in reversed(stacks) if stack]
    if computing:
        stacks.sort(key=lambda stack: stack[0][0].endswith(WAITING))
    for stack in stacks:
        if places := [place for file, line in stack if (place := place_in(folder, root, file, int(line)))]:
            return places
    return []
