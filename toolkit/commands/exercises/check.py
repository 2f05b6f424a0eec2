"""Tests the learner's code of a chapter, or of one exercise: `make check CH=2`, `make check EX=2.1`.

    python -m toolkit.commands.exercises.check 2      # or 2.1

Exercises that are not started are not run, except a bug that is asked for by its number: its failure is what there is
to read. The others run their own tests, in one process, with the reference standing in for what is not written yet;
for a bug nothing ever stands in. Where all exercises of a chapter are written, the tests of the chapter as a whole run
too, but for the slow ones. Exit code 0 only when everything that was asked about is solved.
COURSE_CODE=solutions checks the reference; COURSE_CODE=mine takes the learner's code of the other chapters too.
"""

import argparse
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.exercises.generate import edited_modules
from toolkit.commands.exercises.learner import Standing, look_at, read_file
from toolkit.commands.exercises.metadata import Exercise, find, load, of_chapter
from toolkit.commands.exercises.order import LIMIT, Order, TestResult
from toolkit.commands.exercises.report import failures, print_exercise, print_waiting
from toolkit.commands.exercises.runner import ENDED, MOST_ENDED, run
from toolkit.commands.exercises.state import Checked, load_state, save_state
from toolkit.commands.learner.start import ensure
from toolkit.course import ROOT, find_chapter, use
from toolkit.errors import UserError, exit_cleanly


def check(what: str, root: Path = ROOT, limit: float = LIMIT) -> int:
    """Check a chapter (`2`, `02`, `ch02`) or one exercise (`2.1`), print the result, and return the exit code.

    Args:
        limit: see `Order`.
    """
    exercises = load(root)
    asked = [find(exercises, what)] if re.fullmatch(r"\d+\.\d+", what.strip()) else None
    chapter = asked[0].chapter if asked else find_chapter(what, root)
    asked_alone = asked is not None
    asked = asked or of_chapter(exercises, chapter)
    if not asked:
        raise UserError(f"{chapter} has no exercises; nothing to check")
    setting = os.environ.get("COURSE_CODE") or None
    own_code = setting != "solutions"
    if own_code:
        ensure(root)
    # One choice for what is printed here and for what the test process runs.
    choice = use(setting or "mine", None if setting else chapter, fill=own_code, root=root)
    print(f"Testing {choice.describe()}.\n")
    standings = {exercise.id: look_at(exercise, root) for exercise in asked} if own_code else {}
    if own_code:
        for path in sorted((root / MINE / chapter).glob("*.py")):
            read_file(path, path.relative_to(root).as_posix())
        for name in sorted(edited_modules(root)):
            if name.startswith(f"{chapter}/"):
                print(f"There are edits in chapters/{name}, which does not run: what runs is {MINE}/{name}.\n")
    run_now = [
        exercise
        for exercise in asked
        if not own_code or standings[exercise.id].state in ("written", "partly") or (exercise.is_bug and asked_alone)
    ]
    whole_chapter = len(run_now) == len(of_chapter(exercises, chapter))
    order = Order(
        root,
        choice.code,
        (f"tests/{chapter}",),
        choice.chapter,
        choice.fill,
        exercises=(*(exercise.id for exercise in run_now), *([""] if whole_chapter else [])),
        limit=limit,
        timelines=True,
    )
    results = collect(order) if run_now else []
    broken = [result for result in results if result.outcome == "not loaded" or result.test == ""]
    if broken:
        first = broken[0]
        cause = first.message.splitlines()[0]
        if cause.startswith("UserError: "):  # says what is wrong and where by itself, such as a file that is missing
            raise UserError(cause.removeprefix("UserError: "))
        raise UserError(f"{first.where or first.test or 'the tests'} cannot be loaded: {cause}")

    solved = set()
    guesses = load_state(root).guesses if own_code else {}
    for exercise in asked:
        mine = [result for result in results if result.exercise == exercise.id]
        standing = standings.get(exercise.id)
        if exercise not in run_now and standing:
            print_waiting(exercise, standing)
        elif print_exercise(f"{exercise.id} {exercise.title}", mine, standing, guess=guesses.get(exercise.id)):
            solved.add(exercise.id)
    rest = [result for result in results if result.exercise == ""]
    rest_passes = print_exercise("The chapter as a whole", rest, None, right="right") if rest else True
    if own_code:
        remember(standings, solved, results, root)
    print_summary(asked, solved, standings, rest_passes)
    return 0 if len(solved) == len(asked) and rest_passes else 1


def collect(order: Order) -> list[TestResult]:
    """All results; after a test that hangs or crashes, the tests that are left go on in a new process.

    Prints each exercise as its first result comes: the tests of a whole chapter may take two minutes.
    """
    results: list[TestResult] = []
    waiting = list(order.exercises or ())
    print("Running the tests:", end="", flush=True)
    while waiting:
        last = None
        done = frozenset(result.test for result in results) | {without_case(r) for r in results if r.outcome in ENDED}
        for last in run(replace(order, exercises=tuple(waiting), done=done)):
            begins = not results or results[-1].exercise != last.exercise
            if begins and last.outcome != "not loaded":
                print(f" {last.exercise or 'and the chapter as a whole'}", end="", flush=True)
            results.append(last)
        if last is None or last.outcome not in ENDED or last.test == "":
            break
        ended = [result for result in results if result.exercise == last.exercise and result.outcome in ENDED]
        waiting = waiting[waiting.index(last.exercise) + (len(ended) == MOST_ENDED) :]
    print("\n")
    return results


def without_case(result: TestResult) -> str:
    """The test function's node id: a function that hangs in one case is not tried with the others."""
    return result.test.partition("[")[0]


def remember(standings: dict[str, Standing], solved: set[str], results: list[TestResult], root: Path) -> None:
    state = load_state(root)
    for id_, standing in standings.items():
        mine = [result for result in results if result.exercise == id_]
        if mine and standing.state in ("written", "partly"):
            failed = [result.test for result in failures(mine)]
            state.work_on(id_).note_check(standing.digest, id_ in solved, failed, time.time())
        if standing.state == "written":
            state.checks[id_] = Checked(id_ in solved, standing.digest)
        else:
            state.checks.pop(id_, None)
    save_state(state, root)


def print_summary(asked: list[Exercise], solved: set[str], standings: dict[str, Standing], rest_passes: bool) -> None:
    open_ones = [exercise for exercise in asked if exercise.id not in solved]
    line = f"{len(solved)} of {len(asked)} exercise{'s' if len(asked) != 1 else ''} solved"
    if open_ones:
        following = open_ones[0]
        place = standings[following.id].place if following.id in standings else following.file
        line += f"; next: {following.id} {following.title}\n  open {place}"
    elif not rest_passes:
        line += ", but the chapter as a whole does not work yet"
    print(line)


def chapter_numbers(root: Path = ROOT) -> Iterator[str]:
    yield from sorted({exercise.id.split(".")[0] for exercise in load(root).values()}, key=int)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.check", description=__doc__.split("\n")[0]
    )
    parser.add_argument("what", nargs="?", help="a chapter, such as 2, or one exercise, such as 2.1")
    what = parser.parse_args().what
    if what is None:
        raise UserError(f"which chapter? For instance: make check CH=2. There are {', '.join(chapter_numbers())}")
    return check(what)


if __name__ == "__main__":
    exit_cleanly(main)
