"""Writes the one file that a learner hands in: `make report NAME="Ada"`.

    python -m toolkit.commands.classroom.report --name Ada             # --no-code: without the edited files

It says how far each exercise is and how it went, and what runs here; it holds no personal data but the name that is
typed, which may be left out. It has no time but its own, no path, and no name of the machine. The edited Python files
are in it, so that a teacher can run the checks again: what a report merely says, anyone could have typed.
Notebooks are not in it: they hold notes, and outputs with names of folders.
"""

import argparse
import contextlib
import platform
import re
import secrets
import sys
import tomllib
import unicodedata
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from toolkit.choice import MINE, ROOT
from toolkit.commands.classroom.report_file import FORMAT, MODULE, MOST_FILE, ExerciseReport, HandedIn, Report, sha256
from toolkit.commands.exercises.learner import look_at
from toolkit.commands.exercises.metadata import Exercise, load
from toolkit.commands.exercises.state import State, load_state, save_state
from toolkit.commands.exercises.work import Work
from toolkit.commands.learner.folder import edited_modules, read, read_release
from toolkit.commands.learner.start import ensure
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

LONGEST_NAME = 100
JOINER = "\u200d"  # in emoji of several parts


def report(root: Path, name: str, with_code: bool = True) -> tuple[Report, list[str]]:
    """The report of my/ as it is now, and the files that cannot be in it, each with the reason."""
    ensure(root)
    state = load_state(root)
    if not state.learner:
        state.learner = secrets.token_hex(8)
        save_state(state, root)
    files, left_out = {}, []
    for file in sorted(edited_modules(root)):
        text = read(root / MINE / file)
        if not re.fullmatch(MODULE, file) or len(text) > MOST_FILE or not is_unicode(text):
            left_out.append(f"{MINE}/{file}: not UTF-8, over {MOST_FILE:,} characters, or a name that is no module's")
        else:
            files[file] = HandedIn(sha256=sha256(text), text=text if with_code else None)
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    made = Report(
        format=FORMAT,
        learner=state.learner,
        name=name,
        written=datetime.now(UTC).replace(microsecond=0),
        course=project.get("version", "unknown"),
        release=read_release(root)[0],
        python=platform.python_version(),
        torch=version("torch"),
        system=platform.system(),
        exercises={exercise.id: describe(exercise, state, root) for exercise in load(root).values()},
        files=files,
    )
    return made, left_out


def describe(exercise: Exercise, state: State, root: Path) -> ExerciseReport:
    checked, standing = state.checks.get(exercise.id), None
    with contextlib.suppress(UserError):
        standing = look_at(exercise, root)
    work = state.work.get(exercise.id, Work())
    return ExerciseReport(
        state=standing.state if standing else "unreadable",
        solved=bool(standing and checked and checked.solved and checked.digest == standing.digest),
        attempts=work.attempts,
        minutes=round(work.seconds / 60, 1),
        hints=state.hints.get(exercise.id, 0),
        failures=work.failures,
    )


def is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def file_name(made: Report) -> str:
    """Of letters that every system takes; a learner's reports keep their name, and two learners' differ."""
    plain = unicodedata.normalize("NFKD", made.name).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40]
    return "-".join(filter(None, ["report", words, made.learner[:8]])) + ".json"


def summary(made: Report, path: Path, left_out: list[str]) -> str:
    """What is in the file, for the learner to read before they hand it in."""
    solved = sum(each.solved for each in made.exercises.values())
    texts = [f"{MINE}/{file}" for file, each in made.files.items() if each.text is not None]
    lines = [
        f"wrote {path} ({path.stat().st_size / 1000:.0f} kB): this is the file to hand in. It holds",
        f"  - the name: {made.name or 'none; add one with make report NAME=...'}",
        f"  - {len(made.exercises)} exercises ({solved} solved): how far each is, attempts and minutes, hints used, "
        "and which tests failed",
        f"  - versions: course {made.course}, release {made.release}, Python {made.python}, torch {made.torch}, "
        f"{made.system}; and when it was written",
        "  - a random number, by which a newer report takes the place of an older one",
    ]
    if texts:
        lines.append(
            "  - your edited files, comments included, so that the checks can be run again (CODE=no keeps them back):"
        )
        lines += [f"      {text}" for text in texts]
    elif made.files:
        lines.append(f"  - of {len(made.files)} edited files the digests alone: the checks cannot be run again")
    lines += [f"Not in it: {line}" for line in left_out]
    return "\n".join(lines)


def typed_name(given: str | None) -> str:
    """The name to put in: the one given, or else what is typed at the terminal."""
    if given is None and sys.stdin.isatty():
        print("Your name, as it should be in the report (or Enter for none): ", end="", flush=True)
        given = sys.stdin.readline()
    name = (given or "").strip()
    if len(name) > LONGEST_NAME or not name.replace(JOINER, "").isprintable():
        raise UserError(f"a name has up to {LONGEST_NAME} characters, all of them printable; this one has {len(name)}")
    return name


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.classroom.report", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--name", help="the name to put into the report; asked for at a terminal if it is left out")
    parser.add_argument("--no-code", action="store_true", help="keep the edited files back")
    options = parser.parse_args()
    made, left_out = report(ROOT, typed_name(options.name), not options.no_code)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a name that the terminal cannot show
    path = ROOT / MINE / file_name(made)
    write_whole(path, made.model_dump_json(indent=1) + "\n")
    print(summary(made, path.relative_to(ROOT), left_out))
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
