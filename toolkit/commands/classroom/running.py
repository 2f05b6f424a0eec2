"""Runs jobs side by side, each in a sandbox, with a bar that shows how far it is."""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from toolkit.commands.classroom.jobs import Job, Results
from toolkit.commands.classroom.processes import Limits
from toolkit.commands.classroom.rerun import Verdict
from toolkit.commands.classroom.sandbox import IMAGE, Sandbox, find_container, make_stage

GIGABYTES = 2  # of memory for each check that runs


def default_workers() -> int:
    return max(1, min(os.cpu_count() or 1, int(psutil.virtual_memory().available / 1e9 / GIGABYTES)))


@dataclass(frozen=True)
class Running:
    """How handed-in code runs.

    Attributes:
        how: in a "container" (where there is none: not at all), with "trust" in an ordinary process, or "no".
        workers: how many checks at a time.
        image: the container's.
    """

    how: str = "container"
    workers: int = field(default_factory=default_workers)
    image: str = IMAGE
    limits: Limits = field(default_factory=Limits)


@contextmanager
def sandbox_for(running: Running, root: Path) -> Iterator[Sandbox | None]:
    """Where handed-in code runs; None where it does not."""
    program = find_container(running.image) if running.how == "container" else ""
    if running.how == "no" or (running.how == "container" and not program):
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="stepahead-course-", ignore_cleanup_errors=True) as folder:
        stage = Path(folder).resolve() / "course"
        make_stage(root, stage)
        yield Sandbox(stage, program, running.image, running.limits)


def run_jobs(
    jobs: list[Job], results: Results, sandbox: Sandbox, workers: int, console: Console
) -> dict[str, dict[str, Verdict]]:
    """Run what has no result, side by side; returns key -> verdicts of those that were run."""
    columns = TextColumn("running the checks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    found: dict[str, dict[str, Verdict]] = {}
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(workers) as pool:
        task = progress.add_task("", total=len(jobs))
        running = {pool.submit(results.find, job, sandbox): job for job in jobs}
        try:
            for future in as_completed(running):
                found[running[future].key] = future.result()
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # those that run are ended by the same Ctrl-C
            raise
    return found
