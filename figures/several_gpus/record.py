"""How much faster two GPUs are than one: an engine on each, in a process of its own, alone and both at a time.

    make record CH=several_gpus      on a machine with two NVIDIA GPUs

What stands in front of the engines is left out; what it costs is recorded elsewhere (make record CH=replicas, CH=10).
So what two engines do to each other is seen by itself: they share the host's cores, its memory, and the way to it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch

from toolkit.errors import UserError
from toolkit.recordings import ROOT, Row

GPUS = 2
ROUNDS = 3
LOADS = (("8b", 256, 256), ("8b", 32, 512), ("1b", 256, 512), ("1b", 32, 1024))  # model, rows, new tokens


def record(chosen: torch.device) -> dict[str, list[Row]]:
    if torch.cuda.device_count() < GPUS:
        raise UserError(f"this needs {GPUS} NVIDIA GPUs, and torch sees {torch.cuda.device_count()} here")
    return {"several_gpus": [row for load in LOADS for row in compare(*load)]}


def compare(model: str, rows: int, new_tokens: int) -> list[Row]:
    """One engine alone (on each GPU in turn), and all together; in turns."""
    shared: Row = {"model": model, "rows": rows, "new_tokens": new_tokens, "clock": "real"}
    with engines(GPUS, model, rows, new_tokens) as all_of_them:
        runs: dict[int, list[Row]] = {1: [], GPUS: []}
        for number in range(ROUNDS):
            runs[1].append(together(all_of_them[number % GPUS :][:1]))
            runs[GPUS].append(together(all_of_them))
        busy = {replicas: activity(all_of_them[:replicas]) for replicas in runs}
    return [
        {**shared, "replicas": replicas, **of_median_speed(mine), **busy[replicas]} for replicas, mine in runs.items()
    ]


def together(engines: Sequence["Engine"]) -> Row:
    """All of them serve their requests, at the same time. The time is that from the first start to the last end."""
    ask_all(engines, "get ready")
    answers = ask_all(engines, "run")
    seconds = max(answer["end"] for answer in answers) - min(answer["start"] for answer in answers)
    tokens = sum(answer["tokens"] for answer in answers)
    return {
        "tokens": tokens,
        "seconds": round(seconds, 4),
        "seconds_each": " ".join(f"{answer['end'] - answer['start']:.4f}" for answer in answers),
        "tokens_per_s": round(tokens / seconds, 1),
        "run_active": round(min(answer["active"] for answer in answers), 4),
    }


def of_median_speed(runs: list[Row]) -> Row:
    """The run of the median speed, and the speeds of all."""
    ordered = sorted(runs, key=lambda run: run["tokens_per_s"])  # type: ignore[arg-type, return-value]
    return {
        **ordered[len(ordered) // 2],
        "tokens_per_s_rounds": " ".join(str(run["tokens_per_s"]) for run in runs),
    }


def activity(engines: Sequence["Engine"]) -> Row:
    """How busy their GPUs are in steady decode, and a step's time for host and device; medians of the engines'."""
    seen = ask_all(engines, "activity")
    known = {name: [one[name] for one in seen if one[name] is not None] for name in seen[0]}
    return {name: round(median(numbers), 4) if numbers else None for name, numbers in known.items()}


class Engine:
    """An engine in a process of its own (engine.py), on one GPU."""

    def __init__(self, gpu: int, model: str, rows: int, new_tokens: int) -> None:
        command = [sys.executable, "-m", "figures.several_gpus.engine", model, str(rows), str(new_tokens)]
        one_thread = {"OMP_NUM_THREADS": "1"}
        environment = {
            **os.environ,
            **one_thread,
            **({"CUDA_VISIBLE_DEVICES": str(gpu)} if torch.cuda.is_available() else {}),
        }
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        print(command, file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """Its next line. Raises UserError if it has ended instead; why, it has said on stderr."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise UserError(f"an engine has ended, with exit code {self.process.wait()}; see its lines above")
        return dict(json.loads(line))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def ask_all(engines: Sequence[Engine], command: str) -> list[dict[str, Any]]:
    """Give all of them a command, and wait for all answers."""
    for engine in engines:
        engine.tell(command)
    return [engine.answer() for engine in engines]


@contextmanager
def engines(count: int, model: str, rows: int, new_tokens: int) -> Iterator[list[Engine]]:
    """So many engines, one on each GPU, ready to serve; they are started side by side."""
    started = [Engine(gpu, model, rows, new_tokens) for gpu in range(count)]
    try:
        for engine in started:
            engine.answer()
        yield started
    finally:
        for engine in started:
            engine.close()
