"""What a class did with one exercise: how many solved it, how long it took, and what went wrong."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

from toolkit.commands.classroom.cells import shown
from toolkit.commands.classroom.table import Row
from toolkit.commands.exercises.metadata import Exercise


@dataclass(frozen=True)
class FailedTest:
    """A test function: how many learners ever failed it, how many fail it when run again, and what it said then."""

    test: str
    says: str
    ever: int
    now: int
    messages: list[tuple[int, str]]


@dataclass(frozen=True)
class Summary:
    """Of one exercise; `minutes` and `attempts` are medians over those who solved it, None where there are none."""

    exercise: Exercise
    words: dict[str, int]
    solved: int
    minutes: float | None
    attempts: float | None
    hints: dict[int, int]
    failed: list[FailedTest]


def summarise(exercise: Exercise, rows: list[Row]) -> Summary:
    mine = [row for row in rows if exercise.id in row.report.exercises]
    words = Counter(row.word(exercise.id) for row in mine)
    done = [row.report.exercises[exercise.id] for row in mine if "solved" in row.word(exercise.id)]
    timed = [each for each in done if each.attempts]
    return Summary(
        exercise,
        dict(words.most_common()),
        len(done),
        median(each.minutes for each in timed) if timed else None,
        median(each.attempts for each in timed) if timed else None,
        dict(sorted(Counter(row.report.exercises[exercise.id].hints for row in mine).items())),
        failed_tests(exercise, mine),
    )


def failed_tests(exercise: Exercise, rows: list[Row]) -> list[FailedTest]:
    """The most often failed first."""
    ever: Counter[str] = Counter()
    messages: dict[str, Counter[str]] = {}
    says: dict[str, str] = {}
    for row in rows:
        verdict = row.verdicts.get(exercise.id)
        found = verdict.failures if verdict else []
        ever.update({*row.report.exercises[exercise.id].failures, *(failure.test for failure in found if failure.test)})
        for failure in found:
            says.setdefault(failure.test, failure.says)
            messages.setdefault(failure.test, Counter())[shown(failure.message, 300)] += 1
    tests = sorted({*ever, *messages}, key=lambda test: (-ever[test], test))
    return [
        FailedTest(
            shown(test, 120) or "(no test ran)",
            shown(says.get(test, ""), 200),
            ever[test],
            sum(messages.get(test, Counter()).values()),
            [(count, text) for text, count in messages.get(test, Counter()).most_common(3)],
        )
        for test in tests[:30]
    ]
