"""What is to be checked again: one chapter of one report at a time.

A job is known by the digest of all that its result depends on. So a result that is there already is never worked out
again, whether an earlier call was interrupted, a learner hands in one more chapter, or two hand in the same file.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from toolkit.choice import MINE
from toolkit.commands.classroom.processes import OverLimit
from toolkit.commands.classroom.report_file import Report
from toolkit.commands.classroom.rerun import Verdict, Verdicts, not_tested
from toolkit.commands.classroom.sandbox import NOT_COPIED, PARTS, Sandbox
from toolkit.commands.exercises.generate import fresh_files
from toolkit.commands.exercises.metadata import Exercise
from toolkit.errors import UserError
from toolkit.files import write_whole


@dataclass(frozen=True)
class Job:
    """A chapter of a report: the exercises that its learner has written, and the files of my/ that they are in."""

    chapter: str
    exercises: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    key: str


def jobs_of(report: Report, exercises: dict[str, Exercise], course: str) -> list[Job]:
    """The jobs of one report; none where the files were kept back.

    Args:
        course: the digest of the course that checks them.
    """
    jobs = []
    for chapter in dict.fromkeys(exercise.chapter for exercise in exercises.values()):
        texts = {name: each.text for name, each in report.files.items() if name.startswith(f"{chapter}/")}
        files = tuple(sorted((name, text) for name, text in texts.items() if text is not None))
        ids = tuple(
            id_
            for id_, exercise in exercises.items()
            if exercise.chapter == chapter
            and id_ in report.exercises
            and report.exercises[id_].state in ("partly", "written")
        )
        if ids and files and len(files) == len(texts):
            key = hashlib.sha256(json.dumps([course, chapter, ids, files]).encode()).hexdigest()
            jobs.append(Job(chapter, ids, files, key))
    return jobs


def course_digest(root: Path) -> str:
    """Of everything in the course that a check's result may depend on."""
    digest = hashlib.sha256()
    for part in PARTS:
        paths = [root / part] if (root / part).is_file() else sorted((root / part).rglob("*"))
        for path in paths:
            inside = path.relative_to(root)
            if path.is_file() and not any(Path(step).match(pattern) for step in inside.parts for pattern in NOT_COPIED):
                digest.update(json.dumps([inside.as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()]).encode())
    return digest.hexdigest()


class Results:
    """Verdicts of jobs, kept in a folder as one file each."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.stubs = fresh_files(root)

    def known(self, job: Job) -> dict[str, Verdict] | None:
        try:
            return Verdicts.model_validate_json((self.folder / f"{job.key}.json").read_bytes()).exercises
        except (OSError, ValidationError):
            return None

    def find(self, job: Job, sandbox: Sandbox) -> dict[str, Verdict]:
        """Run a job; what is said of the handed-in code is kept, what went wrong with the running is not."""
        try:
            with tempfile.TemporaryDirectory(prefix="stepahead-", ignore_cleanup_errors=True) as temporary:
                folder = Path(temporary).resolve() / "job"
                write_mine(folder / MINE, job, self.stubs)
                said = sandbox.run(folder, [job.chapter, *job.exercises])
            verdicts = Verdicts.model_validate_json(said)
            if verdicts.exercises.keys() != set(job.exercises):
                raise UserError("the check answered for other exercises than it was asked for")
        except OverLimit as error:
            verdicts = Verdicts(exercises=dict.fromkeys(job.exercises, not_tested(f"ended: {error}")))
        except (UserError, ValidationError) as error:
            why = str(error) if isinstance(error, UserError) else "the check's answer cannot be read"
            return dict.fromkeys(job.exercises, not_tested(f"could not be run: {why}"))
        write_whole(self.folder / f"{job.key}.json", verdicts.model_dump_json() + "\n")
        return verdicts.exercises


def write_mine(my: Path, job: Job, stubs: dict[str, str]) -> None:
    """The learner's folder: their files, and the course's where they have none."""
    theirs = {name: text for name, text in stubs.items() if name.startswith(f"{job.chapter}/")} | dict(job.files)
    for name, text in theirs.items():
        write_whole(my / name, text)


def waiting(jobs: Iterable[Job], results: Results) -> list[Job]:
    """The jobs without a result, each key once."""
    return [job for job in {job.key: job for job in jobs}.values() if results.known(job) is None]
