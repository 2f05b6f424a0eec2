"""Shows the next hint for an exercise: `make hint EX=2.1`, or `python -m toolkit.commands.exercises.hint 2.1`.

Each call goes one hint further, from a nudge to nearly the answer; after the third, all are shown again together with
the place of the solution.
"""

import argparse
import textwrap
import time
from pathlib import Path

from toolkit.commands.exercises.exhibits import note_guess
from toolkit.commands.exercises.metadata import find, load
from toolkit.commands.exercises.state import load_state, save_state
from toolkit.commands.learner.start import ensure
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.withheld import is_withheld


def next_hint(id_: str, root: Path = ROOT) -> str:
    """The text to show for this call; remembers that it was shown."""
    exercise = find(load(root), id_)
    ensure(root)
    state = load_state(root)
    shown = state.hints.get(exercise.id, 0)
    total = len(exercise.hints)
    title = f"{exercise.id} {exercise.title}"
    if shown >= total:
        listed = "\n".join(wrap(f"{number}. {hint}") for number, hint in enumerate(exercise.hints, start=1))
        solution = f"solutions/{exercise.chapter}/{exercise.file}"
        where = "comes with a later release" if is_withheld(root / solution) else f"is in {solution}"
        return f"{title}: all {total} hints\n{listed}\nThat was the last one. The solution {where}."
    state.hints[exercise.id] = shown + 1
    state.work_on(exercise.id).touch(time.time())
    save_state(state, root)
    rest = f"More: make hint EX={exercise.id}" if shown + 1 < total else f"Then: make check EX={exercise.id}"
    return f"{title}: hint {shown + 1} of {total}\n{wrap(exercise.hints[shown])}\n{rest}"


def take_guess(id_: str, guess: str, root: Path = ROOT) -> str:
    """Remember where the learner thinks a bug of the museum is; returns the text to show. See exhibits.py."""
    exercise = find(load(root), id_)
    ensure(root)
    state = load_state(root)
    text = note_guess(exercise, guess, state.guesses)
    save_state(state, root)
    return text


def wrap(text: str) -> str:
    """Indented, and folded to the width of a page; line ends in the text stay."""
    return "\n".join(
        textwrap.fill(line, width=100, initial_indent="  ", subsequent_indent="  ")
        for line in text.strip().splitlines()
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.hint", description=__doc__.split("\n")[0]
    )
    parser.add_argument("exercise", nargs="?", help="such as 2.1")
    parser.add_argument("--guess", help="where a bug of the museum is, in a sentence: opens its race report")
    options = parser.parse_args()
    exercise = options.exercise
    if exercise is None:
        raise UserError(f"which exercise? For instance: make hint EX=2.1. There are {', '.join(load()) or 'none yet'}")
    print(next_hint(exercise) if options.guess is None else take_guess(exercise, options.guess))
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
