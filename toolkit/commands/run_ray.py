"""`make run-ray`: answers to the prompts of a file, computed by several engines on Ray Data.

    python -m toolkit.commands.run_ray [--model NAME] [--prompts FILE] [--answers FILE] [--tokens N] [--replicas N] ...

Whatever ends it, the same command goes on where it was.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from toolkit import course
from toolkit.commands.serve import make_engine
from toolkit.errors import UserError, exit_cleanly
from toolkit.models import load_model
from toolkit.models.load import model_folder
from toolkit.models.shapes import SHAPES
from toolkit.prompts import SHIPPED

ANSWERS = course.ROOT / "figures" / "local" / "answers.jsonl"
ROWS_ON_GPU, ROWS_ON_CPU = 128, 16


def main() -> int:
    options = parse_arguments()
    course.use(os.environ.get("COURSE_CODE") or "solutions", fill=True)
    from ch10_serving.offline_job import OfflineJob, Recipe

    fetch(options.model)
    recipe = Recipe(options.model, options.tokens)
    job = OfflineJob(options.prompts, options.answers, recipe)
    if job.num_answers() < job.num_rows:
        answer_all(job, options.model, options.replicas)
    failed = list(job.failed_rows())
    print(f"{job.num_rows - len(failed)} answers in {options.answers}")
    for line in failed[:10]:
        print(f"  failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def answer_all(job: Any, model: str, replicas: int) -> None:  # noqa: ANN401 (an OfflineJob, of whichever code runs)
    """Answer what is left to do."""
    from ch10_serving.local_ray import started

    rows = rows_of_engine()
    print(f"starting Ray and {replicas} engines with model {model} ...", file=sys.stderr, flush=True)
    with started(replicas) as resources, tqdm(total=job.num_rows, unit=" rows", dynamic_ncols=True) as bar:
        from ch10_serving.offline import run  # which imports Ray

        run(job, partial(load_engine, model, rows), replicas, resources, rows, bar.update)


def fetch(model: str) -> None:
    """Download a model if need be, before several processes do so at a time. Raises UserError if there is none."""
    if model not in SHAPES:
        model_folder(model)


def rows_of_engine() -> int:
    """Requests in a step of an engine."""
    return ROWS_ON_GPU if torch.cuda.is_available() else ROWS_ON_CPU


def load_engine(model: str, rows: int) -> tuple[Any, Any]:
    """An engine and its tokenizer, in whichever process."""
    loaded = load_model(model, device="cuda" if torch.cuda.is_available() else "cpu")
    return make_engine(loaded, rows), loaded.tokenizer


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit.commands.run_ray", description="Answer a file of prompts.")
    parser.add_argument("--model", default="default", help="default, tiny, a model folder, or a name on the Hub")
    parser.add_argument("--prompts", type=Path, default=SHIPPED, help='a file with one {"prompt": "..."} a line')
    parser.add_argument("--answers", type=Path, default=ANSWERS, help="the file to write, or to go on with")
    parser.add_argument("--tokens", default="32", help="new tokens per prompt, at most")
    parser.add_argument("--replicas", default="2", help="engines, each on a GPU of its own where there are any")
    options = parser.parse_args()
    options.tokens = count("TOKENS", options.tokens, 999_999_999)
    options.replicas = count("REPLICAS", options.replicas, 10_000)
    return options


def count(name: str, text: str, most: int) -> int:
    """A number from 1 to `most` that was given on the command line."""
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= most:
        raise UserError(f"{name} is {text[:40]!r}; give a whole number from 1 to {most}")
    return int(text)


if __name__ == "__main__":
    exit_cleanly(main)
