"""What of a file goes into a release up to a chapter: all of it, a part, something in its place, or nothing.

Answers of later chapters lie in solutions/, and besides in the planted mistakes, among the course's own tests (right
answers that must pass, the simulated GPU's reports on whole engines), in the page for helpers, in the engine in one
file, in stored outputs, and in the hints.
"""

import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from toolkit.commands.exercises.generate import make_stub
from toolkit.commands.exercises.metadata import Exercise
from toolkit.commands.exercises.regions import find_regions
from toolkit.errors import UserError
from toolkit.withheld import encode_hint

CHAPTER = re.compile(r"(solutions|chapters|tests)/ch(\d\d)_")
COURSES_TESTS = r"tests/test_[^/]+\.py|tests/toolkit/.*|\.ci/.*|\.github/.*"
FOR_HELPERS = r"docs/wrong_answers\.md|toolkit/commands/exercises/helpers_questions\.toml"
LEFT_OUT = re.compile(rf"{COURSES_TESTS}|{FOR_HELPERS}")
ONE_FILE = "solutions/engine_in_one_file.py"
HINTS = "toolkit/commands/exercises/exercises.toml"


def is_later(name: str, upto: int) -> bool:
    """Whether a file belongs to a chapter whose solutions are withheld."""
    found = CHAPTER.match(name)
    return bool(found and int(found[2]) > upto)


def is_solution(name: str, text: str) -> bool:
    """Whether a file of solutions/ holds an exercise's solution."""
    return name.endswith(".py") and name.startswith("solutions/ch") and bool(find_regions(text, name))


def released(name: str, text: str, upto: int, exercises: Mapping[str, Exercise]) -> str | None:
    """The text of a file in a release, None for a file that is left out."""
    if LEFT_OUT.fullmatch(name):
        return None
    if name == ONE_FILE and any(int(number) > upto for number in re.findall(r"^# ==== chapter (\d+)", text, re.M)):
        return '"""The engine of chapter 8 in one file comes with the solutions of chapter 8."""\n'
    if name == HINTS:
        return with_encoded_hints(text, upto, exercises)
    if not is_later(name, upto):
        return text
    if PurePosixPath(name).name == "mutants.toml":
        return None
    if name.endswith(".ipynb"):
        return without_outputs(text)
    return make_stub(text, dict(exercises), name) if is_solution(name, text) else text


def without_outputs(notebook: str) -> str:
    content = json.loads(notebook)
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def with_encoded_hints(toml: str, upto: int, exercises: Mapping[str, Exercise]) -> str:
    """The metadata with the hints of later chapters encoded."""
    for exercise in exercises.values():
        for hint in exercise.hints if int(exercise.chapter[2:4]) > upto else ():
            literal = json.dumps(hint, ensure_ascii=False)
            if literal not in toml:
                raise UserError(f"{HINTS}: a hint of {exercise.id} is not written as one string in double quotes")
            toml = toml.replace(literal, f'"{encode_hint(hint)}"')
    return toml
