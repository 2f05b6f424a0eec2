"""How `check` prints what became of an exercise: short lines for people, no tracebacks."""

import sys
from collections.abc import Iterable

from toolkit.commands.exercises.exhibits import is_exhibit, without_report
from toolkit.commands.exercises.learner import Standing
from toolkit.commands.exercises.metadata import Exercise
from toolkit.commands.exercises.order import TestResult, essence
from toolkit.commands.exercises.runner import ENDED, MOST_ENDED

_MAX_LINES = 8
_MAX_PRINTED, _MAX_WIDTH = 20, 160
_GREEN, _RED = "32", "31"


def paint(text: str, colour: str) -> str:
    """Coloured on a terminal, plain everywhere else."""
    return f"\033[{colour}m{text}\033[0m" if sys.stdout.isatty() else text


def sign(good: bool) -> str:
    """A tick or a cross, in letters where the output cannot carry the signs."""
    try:
        ("✓" if good else "✗").encode(sys.stdout.encoding or "ascii")
        return paint("✓", _GREEN) if good else paint("✗", _RED)
    except UnicodeEncodeError:
        return "ok  " if good else "FAIL"


def print_waiting(exercise: Exercise, standing: Standing) -> None:
    """An exercise that nothing was run for."""
    name = f"{exercise.id} {exercise.title}"
    if exercise.is_bug:
        print(f"{name}: not started\n  {exercise.symptom}")
        print(f"  find the bug in {standing.place}\n  see it fail: make check EX={exercise.id}\n")
    elif standing.state == "not started":
        print(f"{name}: not started\n  open {standing.place}\n  hint: make hint EX={exercise.id}\n")
    else:
        print(
            f"{name}: started, but not tested, for the placeholder still stands\n"
            f"  when your code is in place, delete the line `raise NotImplementedError(...)`:\n"
            f"  {exercise.path}, {standing.function} (line {standing.raise_line})\n"
        )


def failures(results: Iterable[TestResult]) -> list[TestResult]:
    return [result for result in results if result.outcome not in ("passed", "skipped")]


def is_solved(results: list[TestResult], waiting: tuple[str, ...]) -> bool:
    """Whether an exercise with these results, and functions that still wait to be written, counts as solved."""
    ran = any(result.outcome != "skipped" for result in results)
    return ran and not failures(results) and not waiting


def print_exercise(
    name: str, results: list[TestResult], standing: Standing | None, right: str = "solved", guess: str | None = None
) -> bool:
    """An exercise's tests, one line each; True if it counts as solved, for which `right` is the word.

    Args:
        guess: where the learner thinks a bug of the museum is; without one its race report is not shown.
    """
    by_test: dict[str, list[TestResult]] = {}
    for result in results:
        by_test.setdefault(result.test.partition("[")[0], []).append(result)
    failed = bool(failures(results))
    skipped = bool(results) and all(result.outcome == "skipped" for result in results)
    waiting = standing.waiting if standing else ()
    solved = is_solved(results, waiting)
    if solved:
        verdict = paint(right, _GREEN)
    elif failed:
        verdict = paint(f"not {right} yet", _RED)
    elif waiting:
        verdict = "partly written, so far right"
    else:
        verdict = "not tested: all its tests were skipped" if skipped else "not tested"
    print(f"{name}: {verdict}")
    if waiting and standing:
        print(f"  The reference stands in for {', '.join(waiting)}, still to be written (line {standing.line}).")
    for cases in by_test.values():
        print_test(cases, standing.exercise if standing and is_exhibit(standing.exercise) and not guess else None)
    if sum(result.outcome in ENDED for result in results) == MOST_ENDED:
        print(f"  After {MOST_ENDED} tests that did not end, the tests that were left were not run.")
    if guess:
        print(f"  your guess: {guess}")
    if failed and standing:
        print(f"  hint: make hint EX={standing.exercise.id}")
    print()
    return solved


def print_test(cases: list[TestResult], guess_first: Exercise | None = None) -> None:
    """One test function with all its cases: a line, and the first failure below it.

    Args:
        guess_first: the exercise, where its race report is kept back.
    """
    bad = failures(cases)
    if not bad and cases[0].outcome == "skipped":
        print(f"  - {cases[0].says}: skipped, {cases[0].message.removeprefix('Skipped: ')}")
        return
    count = f" ({len(bad)} of {len(cases)} cases fail)" if bad and len(cases) > 1 else ""
    print(f"  {sign(not bad)} {cases[0].says}{count}")
    if bad:
        case = bad[0].test.partition("[")[2].rstrip("]")
        told = essence(bad[0].message)
        lines = told if guess_first is None else without_report(told, guess_first)
        kept_back = lines != told
        if len(lines) > _MAX_LINES:
            lines = [*lines[:_MAX_LINES], "..."]
        if case:
            lines.insert(0, f"case {case}:")
        if bad[0].where and not kept_back:
            # What keeps a loop from ending may lie elsewhere than where it was when it was given up.
            lines.append(f"{'it was then at' if bad[0].outcome == 'hung' else 'in your code'}: {bad[0].where}")
        lines += [case.timeline for case in bad if case.timeline and not kept_back][:1]
        lines += last_lines(bad[0].printed)
        print("\n".join(f"      {line}" for line in lines))


def last_lines(printed: str) -> list[str]:
    """What the code printed, for a reader: the last lines, each cut to the width of a page; [] if nothing."""
    lines = printed.rstrip().splitlines()
    if not lines:
        return []
    shown = [f"  {line[:_MAX_WIDTH]}{' ...' if len(line) > _MAX_WIDTH else ''}" for line in lines[-_MAX_PRINTED:]]
    return [
        "it printed:" if len(lines) <= _MAX_PRINTED else f"it printed, at the end of {len(lines)} lines or more:",
        *shown,
    ]
