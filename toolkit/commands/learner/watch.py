"""Checks a chapter, or one exercise, at every save: `make watch CH=2`.

python -m toolkit.commands.learner.watch 2      # or 2.1
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import watchfiles

from toolkit.choice import MINE, ROOT
from toolkit.commands.exercises.check import chapter_numbers, check
from toolkit.commands.exercises.metadata import find, load
from toolkit.commands.learner.start import ensure
from toolkit.course import find_chapter
from toolkit.errors import UserError, exit_cleanly


class _Modules(watchfiles.PythonFilter):
    """Python files, without the copies that JupyterLab makes of them."""

    ignore_dirs = (*watchfiles.PythonFilter.ignore_dirs, ".ipynb_checkpoints")


def saves(folder: Path) -> Iterator[set[str]]:
    """The names of the Python files that were saved, each time that some were; until Ctrl-C."""
    for changes in watchfiles.watch(folder, watch_filter=_Modules(), raise_interrupt=False):
        yield {Path(path).name for _, path in changes}


def watch(what: str, root: Path = ROOT, saved: Iterable[set[str]] | None = None) -> None:
    """Check now, and after each save in the chapter's folder.

    Args:
        what: as for `check`.
        saved: what `saves` gives, for tests.
    """
    ensure(root)
    is_exercise = re.fullmatch(r"\d+\.\d+", what.strip())
    chapter = find(load(root), what).chapter if is_exercise else find_chapter(what, root)
    folder = root / MINE / chapter
    if not folder.is_dir():
        raise UserError(f"{MINE}/{chapter} is not there, so nothing can be watched in it; make start brings it back")
    check_once(what, root)
    for names in saves(folder) if saved is None else saved:
        print(f"\n{'-' * 20} {', '.join(sorted(names))} saved {'-' * 20}\n")
        check_once(what, root)


def check_once(what: str, root: Path) -> None:
    """A file that cannot be loaded is what the next save may mend."""
    try:
        check(what, root)
    except UserError as error:
        print(f"error: {error}")
    print("Waiting for the next save; Ctrl-C ends this.")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.learner.watch", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", nargs="?", help="a chapter, such as 2, or one exercise, such as 2.1")
    what = parser.parse_args().what
    if what is None:
        raise UserError(f"which chapter? For instance: make watch CH=2. There are {', '.join(chapter_numbers())}")
    watch(what)
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
