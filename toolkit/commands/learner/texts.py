"""Merging two edits of one text, by `git merge-file`: git is there, since it has brought the new release."""

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path

from toolkit.errors import UserError

YOURS, BETWEEN, COURSES = "<<<<<<< yours\n", "=======\n", ">>>>>>> the course's\n"
# git's own marks, so long that no text has such a line. They show the version before, too.
_LONG = 60
_CONFLICT = re.compile(
    r"^<{60} .*?\n(?P<mine>.*?)^\|{60} .*?\n(?P<base>.*?)^={60}\n(?P<new>.*?)^>{60} .*?\n", re.MULTILINE | re.DOTALL
)

Settle = Callable[[list[str], list[str], list[str]], list[str] | None]


@dataclass(frozen=True)
class Merged:
    """`conflicts`: how many places of the text hold both versions, between YOURS, BETWEEN and COURSES."""

    text: str
    conflicts: int = 0


def merge_texts(base: str, mine: str, new: str, settle: Settle = lambda base, mine, new: None) -> Merged:
    """What has become of `base` with the changes of both sides; where they meet, both versions with marks around them.

    Args:
        settle: given the lines of such a place as they were, and as both sides have them; may return what should be
            there instead of both.

    Raises:
        UserError: it needs git, and there is none.
    """
    if mine in (base, new):
        return Merged(new)
    if new == base:
        return Merged(mine)
    merged, conflicts = _git_merge_file(base, mine, new), 0

    def both(place: re.Match[str]) -> str:
        nonlocal conflicts
        before, one, other = (place[name].splitlines(keepends=True) for name in ("base", "mine", "new"))
        settled = settle(before, one, other)
        if settled is None:
            settled = _whole_of_both(one, other)
        if settled is None:
            conflicts += 1
            settled = _marked(one, other)
        return "".join(settled)

    text = _CONFLICT.sub(both, merged)
    return Merged(text, conflicts)


def _git_merge_file(base: str, mine: str, new: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("mine", "base", "new")]
        for path, text in zip(paths, (mine, base, new), strict=True):
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        command = ["git", "merge-file", "-p", "--diff3", f"--marker-size={_LONG}", *map(str, paths)]
        try:
            done = subprocess.run(command, capture_output=True)
        except FileNotFoundError:
            raise UserError("merging your edits with the course's needs git, which is not found here") from None
    if not 0 <= done.returncode < 128:  # in between, it is the number of conflicts
        said = done.stderr.decode(errors="replace").strip()
        raise UserError(f"git merge-file ended with code {done.returncode}, and nothing was changed: {said}")
    return done.stdout.decode("utf-8", "surrogateescape")


def _whole_of_both(one: list[str], other: list[str]) -> list[str] | None:
    """One version where it has all lines of the other and more: as after an update that was interrupted."""
    short, long = sorted((one, other), key=len)
    rest = iter(long)
    return long if any(map(str.strip, short)) and all(line in rest for line in short) else None


def _marked(one: list[str], other: list[str]) -> list[str]:
    """Both versions with marks around what differs."""
    start = len(commonprefix([one, other]))
    before, one, other = one[:start], one[start:], other[start:]
    end = len(commonprefix([one[::-1], other[::-1]]))
    after = one[len(one) - end :]
    return [*before, YOURS, *one[: len(one) - end], BETWEEN, *other[: len(other) - end], COURSES, *after]


def marked_line(text: str) -> int | None:
    """The first line, from 1, of a text that still holds the marks of a merge; None if there are none."""
    lines = text.splitlines(keepends=True)
    return next((number for number, line in enumerate(lines, 1) if line in (YOURS, COURSES)), None)
