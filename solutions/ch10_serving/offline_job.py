"""An offline job: which prompts are to be answered how, and what of it is there already.

Beside the answers lies a small file that says what they were made from, and how. The next run goes on only if it would
do the same: a file with one model's answers in its first half and another's in its second is worse than none.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from ch10_serving.answers_file import AnswersFile
from toolkit.errors import UserError
from toolkit.files import write_whole


@dataclass(frozen=True)
class Recipe:
    """How rows are answered: greedily, so it does not matter which engine answers a row.

    Beside which others does not matter either, up to the last bits of the logits, which may depend on the batch.
    """

    model: str
    max_tokens: int


@dataclass(frozen=True)
class Slice:
    """Some rows of the input, one behind the other: what one call of an engine gets.

    Attributes:
        line: number of the first one's line, from 1. offset: where that line begins, in bytes.
        num_rows: rows in it; blank lines are none.
    """

    line: int
    offset: int
    num_rows: int


class OfflineJob:
    """The rows of an input file, and the answers to them.

    Args:
        prompts: a file with one {"prompt": "..."} a line.
        answers: the file to write; where it is there already, this job goes on with it.

    Attributes:
        num_rows: rows of the input.

    Raises:
        UserError: one of the files cannot be used, or the answers were made of other prompts, or in another way.
    """

    def __init__(self, prompts: Path, answers: Path, recipe: Recipe) -> None:
        self.prompts, self.answers, self.recipe = prompts, answers, recipe
        if answers.exists() and answers.samefile(prompts):
            raise UserError(f"{answers}: the answers would be written over the prompts; choose another file")
        self.num_rows, digest = survey(prompts)
        if self.num_rows == 0:
            raise UserError(f'{prompts}: no prompts in it; write one a line, as {{"prompt": "..."}}')
        self.check_same({"prompts": digest} | asdict(recipe))

    def check_same(self, origin: dict[str, object]) -> None:
        """Raises UserError if the answers that are there already have another origin than this."""
        note = self.answers.with_name(f"{self.answers.name}.origin.json")
        if not self.answers.exists() or self.answers.stat().st_size == 0:
            write_whole(note, json.dumps(origin, indent=2) + "\n")
            return
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise UserError(
                f"{self.answers}: it is there already, and no run has made it; choose another file"
            ) from None
        for name, value in origin.items():
            if before.get(name) != value:
                was = "are not the same" if name == "prompts" else f"was {before.get(name)} and is {value} now"
                raise UserError(
                    f"{self.answers}: {name} {was}, so it cannot be gone on with; choose another file, or delete it"
                )

    def slices(self, start: int, size: int) -> Iterator[Slice]:
        """The rows from number `start` on, cut into slices of `size`; the last one may have fewer."""
        rows = islice(rows_of(self.prompts), start, None)
        while part := list(islice(((line, offset) for line, offset, _ in rows), size)):
            yield Slice(*part[0], len(part))

    def open_answers(self) -> AnswersFile:
        """The answers; whole rows only. Raises UserError where there are more than the job has."""
        answers = AnswersFile(self.answers)
        if answers.num_rows > self.num_rows:
            answers.close()
            raise UserError(
                f"{self.answers}: {answers.num_rows} answers to {self.num_rows} prompts; choose another file"
            )
        return answers

    def num_answers(self) -> int:
        """Rows that are answered."""
        with self.open_answers() as answers:
            return answers.num_rows

    def failed_rows(self) -> Iterator[str]:
        """What is wrong with each row that could not be answered."""
        with open(self.answers, encoding="utf-8") as file:
            for text in file:
                if (error := json.loads(text).get("error")) is not None:
                    yield error


def rows_of(prompts: Path, line: int = 1, offset: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Number, offset and text of each line that is not blank, read as they are asked for.

    Args:
        line, offset: number of the line to begin with, and where it begins in the file.

    Raises UserError if the file cannot be read.
    """
    try:
        with open(prompts, "rb") as file:
            file.seek(offset)
            for number, text in enumerate(file, start=line):
                if text.strip():
                    yield number, offset, text
                offset += len(text)
    except OSError as error:
        raise UserError(f"prompts {str(prompts)[:200]!r}: cannot read it: {error.strerror}") from None


def survey(prompts: Path) -> tuple[int, str]:
    """The number of rows, and a digest of them all."""
    digest, count = hashlib.blake2b(digest_size=16), 0
    for count, (_, _, text) in enumerate(rows_of(prompts), start=1):  # noqa: B007
        digest.update(text.strip() + b"\n")
    return count, digest.hexdigest()
