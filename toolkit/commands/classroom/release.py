"""Makes a repository without the later chapters' solutions: `make release UPTO=5 TO=../class`.

    python -m toolkit.commands.classroom.release 5 --to ../class       # --python PATH, for a version that is not found

In it learners can do every exercise: what stands in for unsolved ones of later chapters is there as bytecode
(toolkit/withheld.py). The history is a fresh one. Later the same command with a higher chapter adds a commit to it, and
learners call `git pull` and `make update`. RELEASED.md in it says what it does not hide.
"""

import argparse
import os
from pathlib import Path

from toolkit.choice import ROOT
from toolkit.commands.classroom.bytecode import compiled_by, interpreters, wanted
from toolkit.commands.classroom.leaks import still_readable, telling_lines
from toolkit.commands.classroom.publish import FIRST_LINE, MARK, publish, released_before, tracked_files
from toolkit.commands.classroom.shown_parts import is_later, is_solution, released
from toolkit.commands.exercises.metadata import load
from toolkit.course import chapter_names, find_chapter
from toolkit.errors import UserError, exit_cleanly
from toolkit.withheld import ENDING

NOTE = """{first_line}

Every exercise of this repository can be done and checked. Solutions up to chapter {upto} are in `solutions/`; of later
chapters that folder has the exercises, and the given modules. What stands in for an exercise that you have not solved
yet is bytecode of Python, for {versions}. New solutions come with `git pull`; then call `make update`.

What this does not hide:

- bytecode can be disassembled, and later hints are only encoded: they keep an answer from being read by accident;
- given files say some lines that a later exercise asks for as well:
{leaks}

Left out are the course's own tests (`make test` runs those of the chapters), planted mistakes of later chapters, and
outputs of later lessons. The engine in one file, of which chapter 8's lesson has cells, comes with chapter 8's
solutions, and so does `pip install .`.
"""


def release(upto: int, target: Path, root: Path = ROOT, pythons: list[str] | None = None) -> list[str]:
    """Make or continue a release, and return what to tell, in lines.

    Args:
        pythons: interpreters to compile with, besides this one and those on the PATH.
    """
    before = released_before(target)
    if before is not None and before > upto:
        raise UserError(f"{target} has the solutions up to chapter {before}, and so has its history; name another")
    exercises = load(root)
    contents = {name: (root / name).read_bytes() for name in tracked_files(root)}
    files: dict[str, bytes] = {}
    sources: dict[str, str] = {}
    for name, content in contents.items():
        try:
            text = content.decode()
        except UnicodeDecodeError:  # a picture
            files[name] = content
            continue
        if is_later(name, upto) and is_solution(name, text):
            sources[name] = text
        shown = released(name, text, upto, exercises)
        if shown is not None:
            files[name] = content if shown == text else shown.encode()
    leaks = still_readable(telling_lines(sources), ((name, files[name].decode("utf-8", "ignore")) for name in files))
    commands = interpreters(pythons or ())
    for tag, command in commands.items():
        for name, code in compiled_by(command, sources).items():
            files[f"{name.removesuffix('.py')}.{tag}{ENDING}"] = code
    listed = [
        f"  - `{name}`: {len(lines)} of exercise {', '.join(sorted(set().union(*lines.values())))}"
        for name, lines in sorted(leaks.items())
    ]
    first_line, versions = FIRST_LINE.format(upto=upto), ", ".join(sorted(commands))
    note = NOTE.format(first_line=first_line, upto=upto, versions=versions, leaks="\n".join(listed) or "  - none")
    files[MARK] = note.encode()
    executable = {name for name in files if name in contents and os.access(root / name, os.X_OK)}
    changed = publish(files, executable, target, first_line.removeprefix("# "))
    told = [f"{target} has the solutions up to chapter {upto}" + ("" if changed else "; nothing has changed in it")]
    if sources:
        told.append(f"{len(sources)} files are withheld; what stands in for them runs on {versions}")
        told.append(f"Lines of them that given files repeat are listed in {MARK}: {sum(map(len, leaks.values()))}")
    if sources and (missing := sorted(wanted() - commands.keys())):
        told.append(f"Not on {', '.join(missing)}: name an interpreter of each with --python, or tell the class")
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.classroom.release", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("upto", nargs="?", help="the last chapter whose solutions are in it, such as 5")
    parser.add_argument("--to", type=Path, help="the folder of the repository to make or to continue")
    parser.add_argument("--python", action="append", default=[], help="an interpreter to compile with; may be repeated")
    options = parser.parse_args()
    if options.upto is None or options.to is None:
        chapters = f"{chapter_names()[0][2:4].lstrip('0') or '0'} to {int(chapter_names()[-1][2:4])}"
        raise UserError(f"up to which chapter ({chapters}), and where? For instance: make release UPTO=5 TO=../class")
    target = options.to.resolve()
    if target.is_relative_to(ROOT):
        raise UserError(f"{target} lies in this repository; name a folder outside, such as ../class")
    print("\n".join(release(int(find_chapter(options.upto)[2:4]), target, pythons=options.python)))
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
