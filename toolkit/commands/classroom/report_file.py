"""What a learner hands in: one JSON file. Whatever is read here was written by a stranger, so all of it is checked.

A report is no archive, so there is nothing to unpack. Its size is looked at before it is read, its depth by pydantic's
parser, and every text and number has its limits. Names of files are those of Python modules in a chapter's folder.
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from toolkit.errors import UserError

FORMAT: Final = "stepahead report 1"
MOST_BYTES = 2_000_000  # of a report; all exercise files of the course together have 250,000
MOST_FILE = 200_000  # characters of one handed-in file
MODULE = r"ch\d\d_[a-z0-9_]{1,40}(/[A-Za-z0-9_]{1,60}){1,3}\.py"
# Windows takes these for devices, whatever their ending.
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)

Count = Annotated[int, Field(ge=0, le=1_000_000)]
Word = Annotated[str, Field(max_length=60, pattern=r"^[\w .+()-]*$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ExerciseId = Annotated[str, Field(pattern=r"^[0-9]{1,2}\.[0-9]{1,2}$")]
TestName = Annotated[str, Field(max_length=200, pattern=r"^[\w.:]*$")]
ModuleName = Annotated[str, Field(pattern=f"^{MODULE}$")]
State = Literal["not started", "begun", "partly", "written", "unreadable"]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class ExerciseReport(Strict):
    """How far the learner is with an exercise (`state` as in exercises/learner.py), and how it went."""

    state: State
    solved: bool
    attempts: Count
    minutes: float = Field(ge=0, le=1_000_000)
    hints: Count
    failures: dict[TestName, Count] = Field(max_length=200)


class HandedIn(Strict):
    """An edited file: the digest of its text, and the text unless the learner kept it back."""

    sha256: Digest
    text: str | None = Field(max_length=MOST_FILE)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.text is not None and sha256(self.text) != self.sha256:
            raise ValueError("the text of a file does not have the digest that is given for it")
        return self


class Report(Strict):
    """
    Attributes:
        learner: a random number of the learner's my/; with `name` it tells two reports of one learner.
        name: as the learner typed it, whatever that is; "" for none.
        course, release: the version, and the digest of what my/ was made from.
        files: path inside my/ -> an edited file with exercises, or one that the learner put beside these.
    """

    format: Literal["stepahead report 1"]
    learner: str = Field(pattern=r"^[0-9a-f]{16}$")
    name: str = Field(max_length=20_000)
    written: AwareDatetime
    course: Word
    release: Word
    python: Word
    torch: Word
    system: Word
    exercises: dict[ExerciseId, ExerciseReport] = Field(max_length=500)
    files: dict[ModuleName, HandedIn] = Field(max_length=200)

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.files:
            if any(DEVICES.match(part) for part in name.split("/")):
                raise ValueError(f"{name} is a device's name on Windows")
        return self


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def read_report(path: Path) -> Report:
    """A report that can be trusted to be of the right shape, and in nothing else.

    Raises:
        UserError: it cannot be read; the message says what is wrong, without the file's name.
    """
    try:
        if not path.is_file():
            raise UserError("it is no file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"it cannot be read: {error.strerror or error}") from None
    if len(content) > MOST_BYTES:
        raise UserError(f"it is larger than {MOST_BYTES:,} bytes, which no report is")
    if FORMAT.encode() not in content[:200]:
        raise UserError("it is not a report of this course")
    try:
        return Report.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"])
        raise UserError(f"it is broken: {f'{place}: ' if place else ''}{first['msg'][:200]}") from None
