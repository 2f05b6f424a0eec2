"""A bug of the museum shows its symptom first; the race report comes once the learner has written down a guess.

    make check EX=8.6                                  # the symptom, and that a race was reported
    make hint EX=8.6 GUESS="the inputs are shared"     # the guess is noted
    make check EX=8.6                                  # now with the report

A report names two lines and the missing edge, which is most of the answer. A guess costs a minute and is what one
learns from.
"""

import re

from toolkit.commands.exercises.metadata import Exercise
from toolkit.errors import UserError

REPORT = "RACE on "  # how a report of the simulated GPU begins


def is_exhibit(exercise: Exercise) -> bool:
    return exercise.is_bug and exercise.file.startswith("museum/")


def without_report(lines: list[str], exercise: Exercise) -> list[str]:
    """A failure's lines up to its race report, and how to see that; the same lines where there is none."""
    for number, line in enumerate(lines):
        if REPORT in line:
            told = [*lines[:number], line.partition(REPORT)[0].rstrip()]
            return [
                *(re.sub(r"[;,] the first one:$", "", text) for text in told if text),
                "The simulated GPU reported a race. Where do you think it comes from? Write it down, in a sentence:",
                f'  make hint EX={exercise.id} GUESS="..."',
                "Then make check shows the report.",
            ]
    return lines


def note_guess(exercise: Exercise, guess: str, guesses: dict[str, str]) -> str:
    """Keep a guess, and say what it opens.

    Raises:
        UserError: the exercise is not a bug of the museum, or the guess has no words.
    """
    if not is_exhibit(exercise):
        raise UserError(f"exercise {exercise.id} takes no guess; a bug of the museum does, such as 8.6")
    if not guess.strip():
        raise UserError(f'the guess is empty; write a sentence: make hint EX={exercise.id} GUESS="..."')
    guesses[exercise.id] = guess.strip()
    return f"{exercise.id} {exercise.title}: noted. From now on make check EX={exercise.id} shows the race report."
