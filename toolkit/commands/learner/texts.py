"""Merging two edits of one text, by `git merge-file`: git is there, since it has brought the new release."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UserError

YOURS, COURSES = "<<<<<<< yours", ">>>>>>> the course's"


@dataclass(frozen=True)
class Merged:
    """`conflicts`: how many places of the text hold both versions, between YOURS and COURSES."""

    text: str
    conflicts: int = 0


def merge_texts(base: str, mine: str, new: str) -> Merged:
    """What has become of `base` with the changes of both sides; where they meet, both versions with marks around them.

    Raises:
        UserError: it needs git, and there is none.
    """
    if mine in (base, new):
        return Merged(new)
    if new == base:
        return Merged(mine)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("mine", "base", "new")]
        for path, text in zip(paths, (mine, base, new), strict=True):
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
        labels = [part for text in (YOURS, "<<<<<<< before", COURSES) for part in ("-L", text.partition(" ")[2])]
        try:
            done = subprocess.run(["git", "merge-file", "-p", *labels, *map(str, paths)], capture_output=True)
        except FileNotFoundError:
            raise UserError("merging your edits with the course's needs git, which is not found here") from None
    if not 0 <= done.returncode < 128:  # the number of conflicts, at most 127; anything else is an error
        raise UserError(f"git merge-file: {done.stderr.decode(errors='replace').strip()}")
    return Merged(done.stdout.decode("utf-8", "surrogateescape"), done.returncode)


def marked_line(text: str) -> int | None:
    """The first line, from 1, of a text that still holds the marks of a merge; None if there are none."""
    lines = text.splitlines()
    return next((number for number, line in enumerate(lines, 1) if line in (YOURS, COURSES)), None)
