"""What is remembered about a learner between commands: hints taken, results of the last checks, how the work went.

It lies in my/.progress.json. Losing it loses no work.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.exercises.work import Work
from toolkit.course import ROOT
from toolkit.errors import UserError
from toolkit.files import write_whole

FILE = f"{MINE}/.progress.json"


@dataclass
class Checked:
    """The result of the last check of an exercise, and the digest of the functions that were checked."""

    solved: bool
    digest: str


@dataclass
class State:
    """`hints`: exercise id -> how many were shown; `checks`: -> the last result; `guesses`: -> where a bug may be;
    `work`: -> how it went. `learner` is a random number, by which two reports of one learner are known; "" before one.
    """

    hints: dict[str, int] = field(default_factory=dict)
    checks: dict[str, Checked] = field(default_factory=dict)
    guesses: dict[str, str] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)
    learner: str = ""

    def work_on(self, id_: str) -> Work:
        return self.work.setdefault(id_, Work())


def load_state(root: Path = ROOT) -> State:
    """The remembered state; a file that cannot be understood is put aside, and said so."""
    path = root / FILE
    if not path.is_file():
        return State()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        hints = {str(id_): min(max(int(count), 0), 3) for id_, count in data["hints"].items()}
        checks = {
            str(id_): Checked(item["solved"] is True, str(item["digest"])) for id_, item in data["checks"].items()
        }
        guesses = {str(id_): str(guess) for id_, guess in data.get("guesses", {}).items()}
        work = {str(id_): Work.of(item) for id_, item in data.get("work", {}).items()}
        return State(hints, checks, guesses, work, str(data.get("learner", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        aside = path.with_name(f"{path.name}.broken")
        try:
            path.replace(aside)
            print(f"{FILE} could not be read and is now {aside.name}; hints and results start again.", file=sys.stderr)
        except OSError as error:
            print(f"{FILE} can neither be read nor be put aside: {error.strerror}", file=sys.stderr)
        return State()


def save_state(state: State, root: Path = ROOT) -> None:
    """Remember; where that cannot be written, say so and go on, for a check or a hint is of use all the same."""
    try:
        write_whole(root / FILE, json.dumps(asdict(state), indent=1) + "\n")
    except UserError as error:
        print(f"{error}; so the next command does not know of this one", file=sys.stderr)
