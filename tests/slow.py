"""Which tests are slow: those that tests/slow.txt names, by measurement. `make test` leaves them to `make test-long`.

An exercise's check runs its own slow tests, and a bare pytest runs all; what is marked `long`, a sweep, only `make
test-long` runs.

To measure again, on a machine with nothing else to do, and write the list from what pytest has noted:

    COURSE_CODE=solutions python -m pytest -m "not long" -n 2 --dist worksteal --junitxml results.xml
    python -m tests.slow results.xml
"""

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from pathlib import Path

import pytest

LIST = Path(__file__).with_suffix(".txt")
SECONDS = 2.5  # on two cores, with two tests running at a time
# Not slow, however long they take: the whole of it once, from recordings to pictures, a lesson, the engines' answers.
ALWAYS = (
    "tests/figures/test_figures.py::test_every_committed_recording_can_be_drawn",
    "tests/test_lessons.py::test_lesson_runs[ch00_measuring]",
    "tests/toolkit/test_run.py::test_all_engines_answer_alike",
)


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark the collected tests that are named as slow."""
    names = set(LIST.read_text(encoding="utf-8").splitlines())
    for item in items:
        if item.nodeid in names:
            item.add_marker(pytest.mark.slow)


def measured(results: Path) -> list[str]:
    """The tests that took too long, by their names, from pytest's --junitxml."""
    cases = ElementTree.parse(results).getroot().iter("testcase")
    slow = [case for case in cases if float(case.attrib["time"]) >= SECONDS]
    names = {f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}" for case in slow}
    return sorted(names.difference(ALWAYS))


if __name__ == "__main__":
    LIST.write_text("\n".join(measured(Path(sys.argv[1]))) + "\n", encoding="utf-8")
