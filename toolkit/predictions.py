"""Predictions in lessons: a guess is made before something is measured, and compared with the result afterwards.

    idle = guess("share of the time in which the device is idle", ...)    # put a number in place of the dots
    idle.compare(12.5, "%")                                               # a later cell, with what was measured
    list_guesses()                                                        # at the chapter's end: all of them

The dots of Python (`...`) stand for a guess that has not been made, so a lesson runs from top to bottom without one.
Where lessons are published with their outputs, those between a guess and its comparison are folded
(commands/exercises/folded.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TypeAlias

from toolkit.errors import UserError

Answer: TypeAlias = float | str | Sequence[str]

_guesses: dict[str, "Guess"] = {}


@dataclass
class Guess:
    """One question of a lesson, what the reader said to it, and what came out."""

    question: str
    said: Answer | EllipsisType
    result: str = "not measured yet"

    def compare(self, measured: Answer, unit: str = "") -> None:
        """Print what was said beside what is so, and how far apart they are.

        Args:
            measured: a number where the question asks for one, otherwise a word, or words in any order.
            unit: of the numbers, such as "ms"; with "%" the distance is in percentage points.

        Raises:
            UserError: the guess is a number and the answer is words, or the other way round.
        """
        answer = f"it is {_written(measured, unit)}"
        if isinstance(self.said, EllipsisType):
            self.result = f"no guess; {answer}"
        else:
            self.result = f"you said {_written(self.said, unit)}; {answer}: {self._judge(self.said, measured, unit)}"
        print(f"{self.question}\n    {self.result}")

    def _judge(self, said: Answer, measured: Answer, unit: str) -> str:
        if isinstance(said, (int, float)) and isinstance(measured, (int, float)):
            return _distance(said, measured, unit)
        if isinstance(said, (int, float)) or isinstance(measured, (int, float)):
            wanted = "words in quotes" if isinstance(said, (int, float)) else "a number"
            raise UserError(f"the guess to {self.question!r} is {said!r}; it must be {wanted}")
        return "right" if _words(said) == _words(measured) else "not so"


def guess(question: str, said: Answer | EllipsisType) -> Guess:
    """Take the reader's guess; the same question asked again (a cell run twice) replaces it.

    Args:
        question: what is going to be measured, with its unit where it has one.
        said: the guess, or `...` for none.
    """
    _guesses[question] = Guess(question, said)
    return _guesses[question]


def list_guesses() -> None:
    """Print all guesses of this lesson, in the order in which they were made."""
    for made in _guesses.values():
        print(f"{made.question}\n    {made.result}")


def _written(answer: Answer, unit: str) -> str:
    if isinstance(answer, (int, float)):
        return f"{answer:,.4g} {unit}".rstrip()
    return ", ".join([answer] if isinstance(answer, str) else answer)


def _words(answer: str | Sequence[str]) -> set[str]:
    return {word.strip().lower() for word in ([answer] if isinstance(answer, str) else answer)}


def _distance(said: float, measured: float, unit: str) -> str:
    if unit == "%":
        return f"{abs(said - measured):.1f} points apart"
    if said == measured:
        return "exactly"
    if said <= 0 or measured <= 0:
        return f"{abs(said - measured):,.4g} {unit} apart".replace("  ", " ")
    ratio = max(said, measured) / min(said, measured)
    return f"{ratio - 1:.0%} apart" if ratio < 2 else f"a factor of {ratio:.1f} apart"
