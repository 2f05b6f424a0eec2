"""Which lines of withheld solutions can still be read in a release, because a file that is given says the same.

A module of a later chapter does for its purpose what an exercise asks for in another; a lesson shows a call before the
exercise that needs it. Such lines are listed, so that a teacher knows.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from toolkit.commands.exercises.regions import find_regions

SHORTEST = 25  # characters of a line that says something by itself; "return result" does not


def telling_lines(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Line, without its indent -> the exercises whose solution has it; what their files show anyway is left out."""
    lines: dict[str, set[str]] = defaultdict(set)
    for name, text in sources.items():
        rows = text.splitlines()
        for region in find_regions(text, name):
            bug = {row.strip() for row in region.bug or ()}
            for row in rows[region.first : region.last - 1]:
                line = row.strip()
                if len(line) >= SHORTEST and not line.startswith("#") and line not in bug:
                    lines[line].add(region.id)
    return dict(lines)


def still_readable(lines: Mapping[str, set[str]], files: Iterable[tuple[str, str]]) -> dict[str, dict[str, set[str]]]:
    """File -> line -> exercises, for files that have such a line."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, text in files:
        # In a notebook quotes are escaped.
        there = {line: ids for line, ids in lines.items() if line in text or line.replace('"', '\\"') in text}
        if there:
            found[name] = there
    return found
