"""How an exercise was worked on until it was solved: attempts, time, and which tests failed; for reports to a teacher.

It is noted by `make check` and `make hint`. What happens after the first solved check is no work on the exercise any
more, and is not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

BREAK = 30 * 60  # seconds without a check or a hint that count as a break


@dataclass
class Work:
    """
    Attributes:
        attempts: checks of code that had changed since the check before.
        seconds: from the first check or hint on, breaks left out. What a learner did before that is not known.
        last: when there was the last check or hint, in seconds since 1970; 0 before the first.
        digest: of the code that was checked last.
        solved: it has been solved once.
        failures: test function -> attempts in which it failed.
    """

    attempts: int = 0
    seconds: float = 0.0
    last: float = 0.0
    digest: str = ""
    solved: bool = False
    failures: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, item: dict[str, Any]) -> "Work":
        """From what `asdict` gave; where a file has spoilt it: KeyError, TypeError or ValueError."""
        failures = {str(test): int(count) for test, count in dict(item["failures"]).items()}
        seconds, last = float(item["seconds"]), float(item["last"])
        return cls(int(item["attempts"]), seconds, last, str(item["digest"]), item["solved"] is True, failures)

    def touch(self, now: float) -> None:
        """The exercise is being worked on."""
        if self.solved:
            return
        if self.last and 0 <= now - self.last <= BREAK:
            self.seconds += now - self.last
        self.last = now

    def note_check(self, digest: str, solved: bool, failed: Iterable[str], now: float) -> None:
        """A check has been run.

        Args:
            digest: of the code.
            failed: node ids of tests that did not pass.
        """
        if self.solved:
            return
        self.touch(now)
        if digest != self.digest:
            self.attempts += 1
            self.digest = digest
            for test in {node.rpartition("/")[2].partition("[")[0] for node in failed}:
                self.failures[test] = self.failures.get(test, 0) + 1
        self.solved = solved
