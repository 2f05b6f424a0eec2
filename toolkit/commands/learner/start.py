"""Makes my/, the learner's copy of the course: `make start`, or `python -m toolkit.commands.learner.start`.

my/ gets the files with exercises and the lessons without outputs. Edits and progress in chapters/, from before there
was my/, are taken over. Where my/ is there already, only files that are missing come back, as they were shipped.
`ensure` is what the other commands call.
"""

import argparse
import os
import shutil
from pathlib import Path

from toolkit.choice import MINE, ROOT
from toolkit.commands.learner.earlier import PROGRESS, earlier_edits
from toolkit.commands.learner.folder import BASE, RELEASE, looked_at, read_base, read_release, write
from toolkit.commands.learner.shipped import Release, digest, shipped
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

FIRST_LESSON = "ch00_measuring/lesson.ipynb"


def ensure(root: Path = ROOT) -> None:
    """Make my/ if it is missing; say so where the course has changed since.

    Raises:
        UserError: my/ is there, and cannot be used.
    """
    if not ensure_made(root) and digest(root) != read_release(root)[0]:
        print(f"The course has changed since {MINE}/ was made: make update brings the changes there.\n")


def ensure_made(root: Path) -> bool:
    """Make my/ if it is missing, and return whether it was."""
    if (root / MINE).exists():
        looked_at(root)
        return False
    print("\n".join(make(root)) + "\n")
    return True


def start(root: Path = ROOT) -> list[str]:
    """Make my/, or bring back what is missing in it; returns what was done, in lines."""
    if not (root / MINE).exists():
        return make(root)
    if not (root / MINE).is_dir():
        looked_at(root)  # raises
    report = []
    if not (root / MINE / BASE / RELEASE).is_file():
        report = take_as_base(root, shipped(root))
    for name, text in read_base(root).items():
        if not (root / MINE / name).exists():
            write(root / MINE / name, text)
            report.append(f"brought back {MINE}/{name}, as shipped")
    return report or [f"{MINE}/ is complete. To bring the course's changes there: make update"]


def make(root: Path) -> list[str]:
    """Make my/ beside, and give it its name when it is complete."""
    release, edits = shipped(root), earlier_edits(root)
    scratch = root / f".{MINE}.{os.getpid()}.tmp"
    progress = root / PROGRESS
    try:
        for name, text in release.files.items():
            write_whole(scratch / BASE / name, text)
            write_whole(scratch / name, edits.get(name, text))
        for name in edits.keys() - release.files.keys():
            write_whole(scratch / name, edits[name])
        write_whole(scratch / BASE / RELEASE, release.record)
        if progress.is_file():
            write_whole(scratch / PROGRESS, progress.read_bytes())
        scratch.rename(root / MINE)
    except OSError as error:
        raise UserError(f"cannot make {root / MINE}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    lessons = sum(name.endswith(".ipynb") for name in release.files)
    modules = len(release.files) - lessons
    report = [f"made {MINE}/, which is yours: {modules} files with exercises, and {lessons} lessons"]
    if edits:
        report += [f"took over chapters/{name}, which you had edited" for name in sorted(edits)]
        report.append("chapters/ still has these edits, which no command runs; git restore chapters takes them away")
    if progress.is_file():
        progress.unlink(missing_ok=True)
        report.append(f"took over your hints and results, now in {MINE}/{PROGRESS}")
    return report


def take_as_base(root: Path, release: Release) -> list[str]:
    """For a my/ without its base: what differs from this release counts as the learner's from now on."""
    for name, text in release.files.items():
        if not (root / MINE / BASE / name).is_file():
            write_whole(root / MINE / BASE / name, text)
    write_whole(root / MINE / BASE / RELEASE, release.record)
    return [f"{MINE}/{BASE}/ was not complete: from now on, what differs from this release counts as yours"]


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m toolkit.commands.learner.start", description=(__doc__ or "").split("\n")[0]
    ).parse_args()
    print("\n".join(start()))
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
