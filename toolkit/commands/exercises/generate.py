"""Generates the exercise files of chapters/ from solutions/, the only place where this code is written by hand.

    python -m toolkit.commands.exercises.generate         # writes what changed; asks before replacing an edited file
    python -m toolkit.commands.exercises.generate --check # writes nothing; exit code 1 if chapters/ is out of date

Only files with an exercise are copied; the others run from solutions/. Each solution region becomes one `raise
NotImplementedError("ch02 exercise 1: ...")`, and a region with `# BUG` lines becomes these lines, uncommented, without
a trace. chapters/.generated.json holds the sha256 of every file as generated. A file on disk with another sum was
edited (learners wrote there before they had my/) and is never replaced without asking.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

from toolkit.commands.exercises.metadata import Exercise, load, validate
from toolkit.commands.exercises.regions import find_regions
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole
from toolkit.withheld import is_withheld

MANIFEST = ".generated.json"


def make_stub(text: str, exercises: dict[str, Exercise], where: str, only: str | None = None) -> str:
    """A solution's text with its regions replaced by placeholders, or by the bug that is to be found.

    Args:
        where: the file's name for error messages.
        only: the id of the one exercise to replace; the other regions stay solved. None: all.
    """
    lines = text.splitlines(keepends=True)
    for region in reversed(find_regions(text, where)):
        if region.id not in exercises:
            raise UserError(f"{where}:{region.first}: no exercise {region.id} in exercises.toml")
        if only in (None, region.id):
            message = json.dumps(exercises[region.id].message, ensure_ascii=False)
            placeholder = (f"{region.indent}raise NotImplementedError({message})",)
            shipped = placeholder if region.bug is None else region.bug
            lines[region.first - 1 : region.last] = [f"{line}\n" for line in shipped]
    return "".join(lines)


def fresh_files(root: Path = ROOT) -> dict[str, str]:
    """What chapters/ should hold besides the lessons: path inside chapters/ -> text, for each file with an exercise."""
    exercises = load(root)
    texts = {}
    for path in sorted((root / "solutions").glob("ch*_*/**/*.py")):
        name, text = path.relative_to(root / "solutions").as_posix(), path.read_text(encoding="utf-8")
        if find_regions(text, f"solutions/{name}") or is_withheld(path):  # then the text is the exercise's already
            texts[name] = make_stub(text, exercises, f"solutions/{name}")
    return texts


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(root: Path = ROOT) -> dict[str, str]:
    """Path inside chapters/ -> sha256 of the file as it was generated last."""
    try:
        return json.loads((root / "chapters" / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"chapters/{MANIFEST} cannot be read ({error}); get it back with git checkout") from None


def modules_on_disk(root: Path = ROOT) -> set[str]:
    """Path inside chapters/ of every module that lies there, lessons left out."""
    paths = (root / "chapters").glob("ch*_*/**/*.py")
    return {path.relative_to(root / "chapters").as_posix() for path in paths if path.name != "lesson.py"}


def edited_modules(root: Path = ROOT) -> set[str]:
    """Those of them that are not as they were generated: somebody has written there."""
    manifest = read_manifest(root)
    texts = {name: (root / "chapters" / name).read_text("utf-8", "replace") for name in modules_on_disk(root)}
    return {name for name, text in texts.items() if digest(text) != manifest.get(name)}


def generate(root: Path = ROOT, *, may_replace: Callable[[str], bool]) -> list[str]:
    """Bring chapters/ up to date and return what was done, one line for each file that changed or was kept.

    Args:
        may_replace: asked with the path of an edited file that a newer version would replace.
    """
    fresh, manifest, report = fresh_files(root), read_manifest(root), []
    for name, text in fresh.items():
        path = root / "chapters" / name
        on_disk = path.read_text(encoding="utf-8") if path.is_file() else None
        if on_disk == text:
            continue
        edited = on_disk is not None and digest(on_disk) != manifest.get(name)
        if edited and not may_replace(f"chapters/{name}"):
            report.append(f"kept     chapters/{name} (edited)")
            continue
        write_whole(path, text)
        report.append(f"{'wrote   ' if on_disk is None else 'replaced'} chapters/{name}")
    for name in sorted(modules_on_disk(root) - set(fresh)):
        path = root / "chapters" / name
        if name in manifest and digest(path.read_text(encoding="utf-8")) == manifest[name]:
            path.unlink()
            report.append(f"removed  chapters/{name}")
        elif name in manifest:
            report.append(f"kept     chapters/{name} (edited; it has no exercise any more)")
        else:
            report.append(f"kept     chapters/{name} (it has no exercise; no command runs it)")
    sums = {name: digest(text) for name, text in fresh.items()}
    if sums != manifest:
        write_whole(root / "chapters" / MANIFEST, json.dumps(sums, indent=1) + "\n")
    return report


def find_drift(root: Path = ROOT, *, on_disk: bool = True) -> list[str]:
    """Where chapters/ is not what generation would give, one line each.

    Args:
        on_disk: look at the files too, not only at the manifest; a learner's edits then count as drift.
    """
    fresh, manifest, drift = fresh_files(root), read_manifest(root), []
    for name in sorted(set(fresh) | set(manifest)):
        path = root / "chapters" / name
        if name not in fresh:
            drift.append(f"chapters/{name} is generated no longer")
        elif manifest.get(name) != digest(fresh[name]):
            drift.append(f"chapters/{name} was generated from an older solutions/{name}")
        elif on_disk and (not path.is_file() or path.read_text(encoding="utf-8") != fresh[name]):
            drift.append(f"chapters/{name} on disk is not as generated")
    for name in sorted(modules_on_disk(root) - set(fresh) - set(manifest)) if on_disk else ():
        drift.append(f"chapters/{name} is not generated: it has no exercise")
    return drift


def ask(path: str) -> bool:
    """Ask at the terminal whether an edited file may be replaced; where there is no terminal: no."""
    if not sys.stdin.isatty():
        return False
    print(f"{path} has edits that are not the course's. Replace it, losing them? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.generate", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if chapters/ is out of date")
    parser.add_argument("--overwrite", action="store_true", help="replace edited files too, without asking")
    options = parser.parse_args()
    problems = validate(load())
    if options.check:
        problems += find_drift()
        print("\n".join(problems) or "chapters/ is up to date with solutions/")
        return 1 if problems else 0
    report = generate(may_replace=(lambda path: True) if options.overwrite else ask)
    print("\n".join(report) or "chapters/ is up to date with solutions/")
    if any(line.endswith("(edited)") for line in report):
        print("Kept files hold edits. To replace them with the course's, losing the edits, add --overwrite.")
    for problem in problems:
        print(f"still to do: {problem}")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
