"""Offline generation on Ray Data: rows stream from a file through actors, each with an engine of its own, to a file.

    read slices of rows -> engines (actors), several slices in each -> answers, in the rows' order -> the answers' file

Ray Data reads ahead no further than the engines need, sends a slice to the actor that has the fewest, starts an actor
that has died again, and has its slices computed once more. What it does not do is remember over the end of the program
what is done already; the answers' file does. Answers are written in the rows' order, so that file is always the
beginning of what it will be; the price is that of what was computed behind a slow row, some is lost when a run ends.
"""

import errno
import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
import ray
from ray.data import ActorPoolStrategy, DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from ch10_serving.local_ray import first_line
from ch10_serving.offline_engine import OfflineEngine
from ch10_serving.offline_job import OfflineJob, Slice, rows_of
from toolkit.errors import UserError

CALLS = 3  # slices in an engine at a time: one that runs, one whose rows fill its gaps, one that is there next
NO_PROGRESS = 900.0  # seconds, after which a run ends: its engines die as soon as they are started, or never start


class Rows(Datasource):
    """The rows of a job from number `start` on, read by Ray in slices of `size` rows: line and text of each."""

    def __init__(self, job: OfflineJob, start: int, size: int) -> None:
        super().__init__()
        self.job, self.start, self.size = job, start, size

    def estimate_inmemory_data_size(self) -> int:
        return self.job.prompts.stat().st_size

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """A task for each slice; the bounds are sought now, the text is read when it is needed."""
        return [self.read_task(part) for part in self.job.slices(self.start, self.size)]

    def read_task(self, part: Slice) -> ReadTask:
        read = partial(read_slice, self.job.prompts.resolve(), part)
        return ReadTask(read, BlockMetadata(part.num_rows, None, None, None))


def read_slice(prompts: Path, part: Slice) -> Iterator[pyarrow.Table]:
    """The rows of a slice, as one block."""
    rows = list(islice(rows_of(prompts, part.line, part.offset), part.num_rows))
    yield pyarrow.table({"line": [line for line, _, _ in rows], "text": [text for _, _, text in rows]})


def run(
    job: OfflineJob,
    make: Callable[[], Any],
    engines: int,
    resources: dict[str, float],
    size: int,
    on_rows: Callable[[int], object],
) -> None:
    """Answer the rows of a job that are not answered yet. Ray has been started.

    Args:
        make: makes an engine and its tokenizer, in the actor's process.
        engines: number of actors. resources: of each.
        size: rows of a slice; as many as the engine runs in a step.
        on_rows: told of the number of rows that were there before, then of each further number of rows written.

    Raises:
        UserError: it cannot go on. What was written stays, and the next run goes on from there.
    """
    with job.open_answers() as answers:
        on_rows(answers.num_rows)
        try:
            for rows in answered(job, answers.num_rows, make, engines, resources, size):
                answers.append(rows)
                on_rows(len(rows))
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full; make room, and" if is_full else f"{error.strerror};"
            safe = f"{answers.num_rows} of {job.num_rows} rows are safe"
            raise UserError(f"{job.answers}: {why} run this again: {safe}") from None


def answered(
    job: OfflineJob, start: int, make: Callable[[], Any], engines: int, resources: dict[str, float], size: int
) -> Iterator[list[bytes]]:
    """The answers to the rows from number `start` on, some at a time, in order."""
    if start == job.num_rows:
        return
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.execution_no_progress_timeout_s = NO_PROGRESS
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    num_slices = -(-(job.num_rows - start) // size)
    dataset = ray.data.read_datasource(Rows(job, start, size), override_num_blocks=num_slices, num_cpus=1)
    dataset = dataset.map_batches(
        OfflineEngine,
        fn_constructor_args=(make, os.fspath(job.prompts), job.recipe, CALLS * size),
        batch_size=None,
        compute=ActorPoolStrategy(
            size=engines,
            max_tasks_in_flight_per_actor=CALLS + 1,
            max_concurrent_calls_per_actor=CALLS,
            enable_true_multi_threading=True,
        ),
        **resources,
    )
    try:
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            yield list(batch["answer"])
    except Exception as error:  # of Ray's, or what an engine could not start for
        raise UserError(f"the engines have failed: {first_line(error)}; run this again to go on") from error
