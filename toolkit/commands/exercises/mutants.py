"""Plants mistakes in the solutions and looks whether the tests catch them.

A mutant (tests/chNN_name/mutants.toml) is the solution with one piece of text replaced; the test that it names must
fail, with a message that says why. An *unsolved* exercise is the solution with that one exercise as generated; each of
its tests must fail with the exercise's own message. A *bug* as shipped must fail at least one of its tests, with a
message that shows what its metadata says; its other tests are there for wrong repairs. None of them touches a file: the
changed text is an overlay.

    python -m toolkit.commands.exercises.mutants 2        # all planted mistakes of a chapter, one line each
"""

import argparse
import multiprocessing
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path

from toolkit.commands.exercises.generate import make_stub
from toolkit.commands.exercises.metadata import Exercise, files_with_tests, load
from toolkit.commands.exercises.order import Order, TestResult
from toolkit.commands.exercises.runner import run
from toolkit.course import ROOT, chapter_names, find_chapter
from toolkit.errors import UserError, exit_cleanly

LIMIT = 60


@dataclass(frozen=True)
class Mutant:
    """One planted mistake; `chapter` is its folder's name, the other fields are those of mutants.toml.

    Attributes:
        old, new: `old` occurs exactly once in the solution `file` and is replaced by `new`.
        test: the test that must fail, relative to tests/<chapter>/.
        says: a regular expression that must be found in the failure's message.
    """

    chapter: str
    name: str
    exercise: str
    file: str
    old: str
    new: str
    test: str
    says: str

    def source(self, root: Path) -> Path:
        """The solution's file in which it is planted."""
        return root / "solutions" / self.chapter / self.file


def load_mutants(root: Path = ROOT) -> list[Mutant]:
    """The mutants of all chapters. An entry that is not valid raises a UserError."""
    mutants = []
    for chapter in chapter_names(root):
        path = root / "tests" / chapter / "mutants.toml"
        if not path.is_file():
            continue
        try:
            for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []):
                mutants.append(Mutant(chapter, **entry))
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise UserError(f"{path}: {error}") from None
    return mutants


def forkserver() -> BaseContext:
    """Processes forked from one that has loaded what they need; where that cannot be had, fresh ones."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toolkit.commands.exercises.preload"])
    return context


def cannot_be_planted(mutant: Mutant, root: Path = ROOT) -> str | None:
    """Why the solution has no place for the mutant, in one line; None if it has one."""
    count = mutant.source(root).read_text(encoding="utf-8").count(mutant.old)
    if count == 1:
        return None
    return f"mutant {mutant.name}: its old text occurs {count} times in {mutant.chapter}/{mutant.file}, not once"


def find_escape(mutant: Mutant, root: Path = ROOT, context: BaseContext | None = None) -> str | None:
    """Why the mutant is not caught as it should be, in one or a few lines; None if it is."""
    if why := cannot_be_planted(mutant, root):
        return why
    text = mutant.source(root).read_text(encoding="utf-8")
    if mutant.exercise not in load(root):
        return f"mutant {mutant.name}: there is no exercise {mutant.exercise}"
    overlay = {(mutant.chapter, mutant.file): text.replace(mutant.old, mutant.new)}
    results = run_with(root, (f"tests/{mutant.chapter}/{mutant.test}",), overlay, None, context, first_failure=True)
    if not results:
        return f"mutant {mutant.name}: there is no test {mutant.test} in tests/{mutant.chapter}/"
    failed = [result for result in results if result.outcome != "passed"]
    if not failed:
        return f"mutant {mutant.name} is not caught: {mutant.test} passes with it"
    if failed[0].outcome != "failed":
        return f"mutant {mutant.name}: the test {failed[0].outcome}: {failed[0].message}"
    if not re.search(mutant.says, failed[0].message):
        return f"mutant {mutant.name} is caught, but the message does not say {mutant.says!r}:\n{failed[0].message}"
    return None


def find_gap(exercise: Exercise, root: Path = ROOT, context: BaseContext | None = None) -> str | None:
    """Which tests of an exercise do not fail with its own message while it is unsolved; None if all is as it should be.

    A bug may pass some of its tests, but not all.
    """
    name = f"solutions/{exercise.chapter}/{exercise.file}"
    stub = make_stub((root / name).read_text(encoding="utf-8"), load(root), name, only=exercise.id)
    overlay = {(exercise.chapter, exercise.file): stub}
    results = run_with(root, files_with_tests(exercise, root), overlay, (exercise.id,), context)
    if all(result.outcome == "skipped" for result in results):
        return f"exercise {exercise.id}: none of its tests ran"
    if exercise.is_bug and all(result.outcome in ("passed", "skipped") for result in results):
        return f"exercise {exercise.id}: its tests pass with the bug in"
    said = exercise.says if exercise.is_bug else re.escape(exercise.message)
    harmless = ("skipped", "passed") if exercise.is_bug else ("skipped",)
    problems = [
        f"  {result.test}: {result.outcome} {result.message}".rstrip()
        for result in results
        if result.outcome not in harmless and (result.outcome != "failed" or not re.search(said, result.message))
    ]
    if not problems:
        return None
    return f"exercise {exercise.id}: unsolved, these tests do not fail with its message:\n" + "\n".join(problems)


def run_with(
    root: Path,
    targets: tuple[str, ...],
    overlay: Mapping[tuple[str, str], str],
    exercises: tuple[str, ...] | None,
    context: BaseContext | None = None,
    first_failure: bool = False,
) -> list[TestResult]:
    """Run tests on the solutions with changed text; the arguments are those of `Order`, and the kind of process."""
    order = Order(
        root,
        "solutions",
        targets,
        overlay=overlay,
        exercises=exercises,
        first_failure=first_failure,
        limit=LIMIT,
    )
    return list(run(order, context or forkserver()))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.mutants", description=__doc__.split("\n")[0]
    )
    parser.add_argument("chapter", nargs="?", help="such as 2; without it, all chapters")
    wanted = parser.parse_args().chapter
    chapter = find_chapter(wanted) if wanted else None
    problems = 0
    for exercise in load().values():
        if chapter in (None, exercise.chapter):
            gap = find_gap(exercise)
            problems += gap is not None
            print(gap or f"exercise {exercise.id}: unsolved, all its tests fail with its message", flush=True)
    for mutant in load_mutants():
        if chapter in (None, mutant.chapter):
            escape = find_escape(mutant)
            problems += escape is not None
            print(escape or f"mutant {mutant.name} ({mutant.exercise}): caught", flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    exit_cleanly(main)
