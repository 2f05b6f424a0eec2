"""Reads exercises.toml, the one metadata file, and checks it against solutions/ and tests/.

An exercise is one or more regions of a solution file, between `# BEGIN SOLUTION 2.1` and `# END SOLUTION`, each inside
one of the functions that the metadata names. Its tests carry the marker `exercise("2.1")`.

A *bug* to be found has regions with `# BUG` lines in them: these are what the learner gets in the region's place, and
nothing in their file says where it was. Its metadata has a `symptom` and `says`, which other exercises have not.
"""

import ast
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.exercises.regions import find_regions
from toolkit.course import ROOT, chapter_names
from toolkit.errors import UserError
from toolkit.fill import functions_in
from toolkit.withheld import decode_hint

_ID = re.compile(r"(\d{1,2})\.(\d{1,2})")


@dataclass(frozen=True)
class Exercise:
    """One exercise; `chapter` is its folder's name, the other fields are those of exercises.toml.

    Attributes:
        symptom: only for a bug: one line that says what a user of the faulty engine sees.
        says: only for a bug: a regular expression that is found in every failure message of the faulty engine.
    """

    id: str
    chapter: str
    title: str
    file: str
    functions: tuple[str, ...]
    difficulty: int
    minutes: int
    lines: int
    hints: tuple[str, ...]
    symptom: str = ""
    says: str = ""

    @property
    def is_bug(self) -> bool:
        """Whether the learner gets a faulty text to mend, and not a gap to fill."""
        return bool(self.symptom)

    @property
    def message(self) -> str:
        """What an unsolved exercise raises."""
        chapter, number = self.id.split(".")
        return f"ch{int(chapter):02d} exercise {number}: {self.title}"

    @property
    def path(self) -> str:
        """The learner's file, seen from the repository root."""
        return f"{MINE}/{self.chapter}/{self.file}"


def load(root: Path = ROOT) -> dict[str, Exercise]:
    """All exercises by id, in the order of chapter and number.

    Raises:
        UserError: exercises.toml is missing or not valid; the message names the entry.
    """
    path = root / "toolkit/commands/exercises/exercises.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    entries = table.get("exercise", {})
    exercises = [_exercise(id_, entry, path, root) for id_, entry in entries.items()]
    return {item.id: item for item in sorted(exercises, key=lambda item: [int(part) for part in item.id.split(".")])}


def of_chapter(exercises: dict[str, Exercise], chapter: str) -> list[Exercise]:
    return [exercise for exercise in exercises.values() if exercise.chapter == chapter]


def find(exercises: dict[str, Exercise], text: str) -> Exercise:
    """The exercise that the reader means, or a UserError that lists those of the chapter that `text` begins with."""
    if text.strip() in exercises:
        return exercises[text.strip()]
    chapter = text.strip().split(".")[0]
    near = [id_ for id_ in exercises if id_.split(".")[0] == chapter]
    if near:
        raise UserError(f"there is no exercise {text!r}; those of chapter {chapter} are {', '.join(near)}")
    numbers = list(exercises)
    raise UserError(
        f"there is no exercise {text!r}; their numbers go from {numbers[0]} to {numbers[-1]}"
        if numbers
        else f"there is no exercise {text!r}, and no other one yet"
    )


def validate(exercises: dict[str, Exercise], root: Path = ROOT) -> list[str]:
    """Everything in which metadata, solutions and tests disagree, one line each; empty when all is well."""
    problems = []
    for exercise in exercises.values():
        if len(exercise.hints) != 3 or not all(exercise.hints):
            problems.append(f"exercise {exercise.id}: has {len(exercise.hints)} hints, and three are needed")
        if bool(exercise.symptom) != bool(exercise.says):
            problems.append(f"exercise {exercise.id}: a bug has both, symptom and says; other exercises have neither")
        if not 1 <= exercise.difficulty <= 3:
            problems.append(f"exercise {exercise.id}: difficulty is {exercise.difficulty}, and must be 1, 2 or 3")
        if not files_with_tests(exercise, root):
            problems.append(f'exercise {exercise.id}: no test in tests/{exercise.chapter}/ is marked exercise("...")')
        if not (root / "solutions" / exercise.chapter / exercise.file).is_file():
            problems.append(f"exercise {exercise.id}: there is no solutions/{exercise.chapter}/{exercise.file}")
    for path in sorted((root / "solutions").glob("ch*_*/**/*.py")):
        problems += _validate_file(exercises, path, path.relative_to(root).as_posix())
    return problems


def _validate_file(exercises: dict[str, Exercise], path: Path, where: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    functions = dict(functions_in(ast.parse(text, where)))
    mine = [e for e in exercises.values() if where == f"solutions/{e.chapter}/{e.file}"]
    problems: list[str] = []
    with_region: set[tuple[str, str]] = set()
    for region in find_regions(text, where):
        owner = next((e for e in mine if e.id == region.id), None)
        if owner is None:
            problems.append(f"{where}:{region.first}: no exercise {region.id} of this file is in exercises.toml")
            continue
        if owner.is_bug != (region.bug is not None):
            problems.append(
                f"{where}:{region.first}: a region has # BUG lines if its exercise has a symptom, else none"
            )
        holders = [
            name
            for name in owner.functions
            if name in functions
            and functions[name].lineno < region.first < region.last <= _last_line(text, functions[name])
        ]
        if not holders:
            problems.append(f"{where}:{region.first}: the region of {region.id} lies in none of {owner.functions}")
        with_region.update((region.id, name) for name in holders)
    for exercise in mine:
        for name in exercise.functions:
            if name not in functions:
                problems.append(f"exercise {exercise.id}: {where} has no function {name}")
            elif (exercise.id, name) not in with_region:
                problems.append(f"exercise {exercise.id}: {name} in {where} holds no region of it")
    return problems


def _last_line(text: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The function's last line, with comments that follow its last statement (an END SOLUTION is one)."""
    lines, last = text.splitlines(), function.end_lineno or 0
    while last < len(lines) and lines[last].lstrip().startswith("#"):
        last += 1
    return last


def files_with_tests(exercise: Exercise, root: Path = ROOT) -> tuple[str, ...]:
    """The files with tests of an exercise, marked `exercise("X")`, seen from the repository root."""
    marker = re.compile(rf"mark\.exercise\(\s*[\"']{re.escape(exercise.id)}[\"']")
    paths = sorted((root / "tests" / exercise.chapter).glob("test_*.py"))
    return tuple(path.relative_to(root).as_posix() for path in paths if marker.search(path.read_text(encoding="utf-8")))


def _exercise(id_: str, entry: dict, path: Path, root: Path) -> Exercise:
    match = _ID.fullmatch(id_)
    if match is None:
        raise UserError(f'{path}: [exercise."{id_}"]: an id is CHAPTER.NUMBER, such as 2.1')
    chapter = next((name for name in chapter_names(root) if int(name[2:4]) == int(match[1])), None)
    if chapter is None:
        raise UserError(f'{path}: [exercise."{id_}"]: solutions/ has no chapter {match[1]}')
    optional = {"symptom", "says"}
    expected = {field.name for field in fields(Exercise)} - {"id", "chapter"} - optional
    if set(entry) - optional != expected:
        raise UserError(
            f'{path}: [exercise."{id_}"]: must have exactly {", ".join(sorted(expected))}; a bug also symptom and says'
        )
    hints = tuple(decode_hint(hint) for hint in entry["hints"])
    return Exercise(id_, chapter, **(entry | {"functions": tuple(entry["functions"]), "hints": hints}))
