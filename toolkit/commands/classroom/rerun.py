"""Runs the checks of one chapter on handed-in files and prints the results as one line of JSON.

    python -m toolkit.commands.classroom.rerun ch02_continuous_batching 2.1 2.3

It is the program that runs strangers' code, in a copy of the course that has their files in its my/ (sandbox.py). The
results are those of `make check`: the same choice of code, the same order, the same verdict.
"""

import argparse
import contextlib
import io
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from toolkit.choice import ROOT
from toolkit.commands.classroom.report_file import ExerciseId, Strict
from toolkit.commands.exercises.check import collect
from toolkit.commands.exercises.learner import Standing, look_at
from toolkit.commands.exercises.metadata import find, load
from toolkit.commands.exercises.order import LIMIT, Order, TestResult, essence
from toolkit.commands.exercises.report import failures, is_solved
from toolkit.errors import UserError, exit_cleanly

MOST_WORDS = 400  # characters of a message that are kept


class Failure(Strict):
    """A test function that did not pass: its name, what it checks, and what it said."""

    test: str = Field(max_length=200)
    says: str = Field(max_length=500)
    message: str = Field(max_length=MOST_WORDS)


class Verdict(Strict):
    """What became of an exercise; "partly" is right as far as it is written."""

    verdict: Literal["solved", "fails", "partly", "not written", "not tested"]
    failures: list[Failure] = Field(default=[], max_length=200)


class Verdicts(Strict):
    """Exercise id -> what became of it. It comes from where strangers' code ran, so it has limits as a report has."""

    exercises: dict[ExerciseId, Verdict] = Field(max_length=100)


def rerun(chapter: str, ids: list[str], root: Path = ROOT, limit: float = LIMIT) -> Verdicts:
    """Check these exercises of a chapter, with the learner's code in root/my."""
    exercises = load(root)
    standings: dict[str, Standing] = {}
    verdicts: dict[str, Verdict] = {}
    for id_ in ids:
        try:
            standings[id_] = look_at(find(exercises, id_), root)
        except UserError as error:
            verdicts[id_] = not_tested(str(error))
            continue
        if standings[id_].state not in ("written", "partly"):
            verdicts[id_] = Verdict(verdict="not written")
    run_now = tuple(id_ for id_ in ids if id_ not in verdicts)
    order = Order(root, "mine", (f"tests/{chapter}",), chapter, fill=True, exercises=run_now, limit=limit)
    with contextlib.redirect_stdout(io.StringIO()):
        results = collect(order) if run_now else []
    broken = [result for result in results if result.outcome == "not loaded" or result.test == ""]
    for id_ in run_now:
        if broken:
            verdicts[id_] = not_tested(f"{broken[0].where or broken[0].test}: {words(broken[0])}")
        else:
            mine = [result for result in results if result.exercise == id_]
            verdicts[id_] = judge(mine, standings[id_].waiting)
    return Verdicts(exercises=verdicts)


def judge(results: list[TestResult], waiting: tuple[str, ...]) -> Verdict:
    by_test = {result.test.partition("[")[0].rpartition("/")[2]: result for result in reversed(failures(results))}
    failed = [Failure(test=test, says=result.says, message=words(result)) for test, result in by_test.items()]
    if failed:
        return Verdict(verdict="fails", failures=failed)
    if is_solved(results, waiting):
        return Verdict(verdict="solved")
    return Verdict(verdict="partly") if waiting and results else not_tested("none of its tests ran")


def not_tested(why: str) -> Verdict:
    return Verdict(verdict="not tested", failures=[Failure(test="", says="", message=why[:MOST_WORDS])])


def words(result: TestResult) -> str:
    return " ".join(essence(result.message))[:MOST_WORDS]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.classroom.rerun", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("chapter", help="a chapter's folder")
    parser.add_argument("exercises", nargs="+", help="such as 2.1 2.3")
    options = parser.parse_args()
    os.environ.pop("COURSE_CODE", None)
    print(rerun(options.chapter, options.exercises).model_dump_json())
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
