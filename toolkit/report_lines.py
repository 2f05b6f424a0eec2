"""Which line of source a report names first: the learner's own before the reference, later chapters before earlier."""

import re
from pathlib import Path

from toolkit.choice import MINE
from toolkit.course import ROOT, Choice, current

_CHAPTER = re.compile(rf"({MINE}|solutions)/(ch(\d\d)_\w+)/.+")
_ranks: dict[str, int] = {}
_choice: Choice | None = None  # under which they were found


def rank_of(file: str) -> int:
    """How much a reader cares about the lines of a file.

    Returns:
        0 outside the chapters; 1 for chapter 0 to 9 for chapter 8 of the reference; 100 more for the learner's code.
    """
    global _choice
    if current() is not _choice:
        _ranks.clear()
        _choice = current()
    if file not in _ranks:
        _ranks[file] = _rank(Path(file), ROOT if _choice is None else _choice.root)
    return _ranks[file]


def _rank(path: Path, root: Path) -> int:
    found = _CHAPTER.fullmatch(path.relative_to(root).as_posix()) if path.is_relative_to(root) else None
    if found is None:
        return 0
    mine = found[1] == MINE and _choice is not None and _choice.is_mine(found[2])
    return int(found[3]) + 1 + 100 * mine
