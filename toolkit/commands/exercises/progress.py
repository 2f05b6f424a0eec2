"""A table of all exercises: solved, started or not, hints used, minutes to expect. `make progress`.

It reads the learner's files as they are now and the results of the last checks; it runs no tests.
"""

import argparse
from pathlib import Path

from toolkit.commands.exercises.learner import look_at
from toolkit.commands.exercises.metadata import Exercise, load
from toolkit.commands.exercises.state import State, load_state
from toolkit.commands.learner.start import ensure
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly


def describe(exercise: Exercise, state: State, root: Path = ROOT) -> str:
    """Where the exercise stands, in a word or two."""
    try:
        standing = look_at(exercise, root)
    except UserError:
        return "file cannot be read"
    if standing.state != "written":
        return {"not started": "not started", "begun": "started", "partly": "started"}[standing.state]
    checked = state.checks.get(exercise.id)
    if checked is None:
        return "written, not checked"
    if checked.digest != standing.digest:
        return "edited since the last check"
    return "solved" if checked.solved else "started, tests fail"


def table(root: Path = ROOT) -> str:
    ensure(root)
    exercises, state = load(root), load_state(root)
    if not exercises:
        return "There are no exercises yet."
    rows, solved, minutes_left, chapter = [], 0, 0, ""
    width = max(len(exercise.title) for exercise in exercises.values())
    for exercise in exercises.values():
        if exercise.chapter != chapter:
            chapter = exercise.chapter
            rows.append(chapter)
        status = describe(exercise, state, root)
        solved += status == "solved"
        minutes_left += 0 if status == "solved" else exercise.minutes
        rows.append(
            f"  {exercise.id:5} {exercise.title:{width}}  {'*' * exercise.difficulty:3}  {exercise.minutes:3} min  "
            f"hints {state.hints.get(exercise.id, 0)}/{len(exercise.hints)}  {status}"
        )
    rows.append(f"{solved} of {len(exercises)} exercises solved; about {minutes_left} minutes to go.")
    return "\n".join(rows)


def main() -> int:
    argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.progress", description=__doc__.split("\n")[0]
    ).parse_args()
    print(table())
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
