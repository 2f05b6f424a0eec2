"""What a test process is told to run, and what it says of each test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

LIMIT = 30  # five times what the longest test of the course needs


@dataclass(frozen=True)
class Order:
    """What to run and with whose code.

    Attributes:
        root: the repository.
        code, chapter, fill, overlay: as for `toolkit.course.use`.
        targets: files or node ids for pytest, relative to `root`.
        exercises: only tests of these exercises, in this order; "" stands for tests without one. None: all tests.
        done: node ids of tests that are not run; an id without its [case] stands for all cases.
        first_failure: stop after one failing test.
        limit: a test that takes longer is given up, in seconds of an ordinary machine with a free core (`patience`);
            loading all tests may take four times as long.
        timelines: draw the run of a failing test that is about a race or an overlap.
    """

    root: Path
    code: str
    targets: tuple[str, ...]
    chapter: str | None = None
    fill: bool = False
    overlay: Mapping[tuple[str, str], str] = field(default_factory=dict)
    exercises: tuple[str, ...] | None = None
    done: frozenset[str] = frozenset()
    first_failure: bool = False
    limit: float = LIMIT
    timelines: bool = False


@dataclass(frozen=True)
class TestResult:
    """What became of one test.

    Attributes:
        test: node id. For what ends a whole run (tests that cannot be loaded, a crash) the test then running, or "".
        exercise: the id from its marker, or "".
        says: the first sentence of its docstring.
        outcome: "passed", "failed", "skipped", "hung", "crashed" or "not loaded".
        message: why it did not pass.
        where: the line of the learner's files that was running, such as "my/.../x.py:41"; or "". (See places.py.)
        printed: what the test and the code under it wrote to stdout and stderr; of much, only the end.
        timeline: a line that says where its run is drawn (see timelines.py); or "".
    """

    __test__ = False  # not a test class, whatever pytest makes of the name

    test: str
    exercise: str
    says: str
    outcome: str
    message: str = ""
    where: str = ""
    printed: str = ""
    timeline: str = ""


def read_end(path: Path, start: int = 0, most: int = 20_000) -> str:
    """A file's text from byte `start` on; of much, the last `most` bytes."""
    with path.open("rb") as file:
        file.seek(max(start, path.stat().st_size - most))
        return file.read().decode(errors="replace")


def essence(message: str) -> list[str]:
    """A failure's own words; the comparison that pytest adds is shown only where there are no others."""
    lines = [line for line in message.splitlines() if line.strip()] or ["no message"]
    added = next((number for number, line in enumerate(lines) if line.startswith("assert ")), 0)
    return lines[:added] if added else lines
