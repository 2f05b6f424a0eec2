"""Finds an exercise's regions in a solution file: the lines between `# BEGIN SOLUTION 2.1` and `# END SOLUTION`."""

import re
from dataclasses import dataclass

from toolkit.errors import UserError
from toolkit.fill import BEGIN

END = re.compile(r"^\s*# END SOLUTION\s*$")
BUG = re.compile(r"^(?P<indent>\s*)# BUG(?: (?P<code>.*))?$")


@dataclass(frozen=True)
class Region:
    """Lines `first` to `last` (from 1, the two comments included) of a solution file belong to exercise `id`.

    `bug` holds what its `# BUG` lines say, uncommented; None if it has none.
    """

    id: str
    indent: str
    first: int
    last: int
    bug: tuple[str, ...] | None


def find_regions(text: str, where: str) -> list[Region]:
    """The solution regions of a source text. Unpaired comments raise a UserError that starts with `where`."""
    regions, begin, first = [], None, 0
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if match := BEGIN.match(line):
            if begin:
                raise UserError(f"{where}:{number}: BEGIN SOLUTION inside the region that starts at line {first}")
            begin, first = match, number
        elif END.match(line):
            if begin is None:
                raise UserError(f"{where}:{number}: END SOLUTION without a BEGIN SOLUTION before it")
            found = [match for inside in lines[first : number - 1] if (match := BUG.match(inside))]
            # `# BUG` with nothing behind it: the region is simply missing.
            bug = tuple(match["indent"] + match["code"] for match in found if match["code"]) if found else None
            regions.append(Region(begin["id"], begin["indent"], first, number, bug))
            begin = None
    if begin:
        raise UserError(f"{where}:{first}: BEGIN SOLUTION has no END SOLUTION")
    return regions
