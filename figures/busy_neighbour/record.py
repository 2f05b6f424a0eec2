"""The full engine beside a process that keeps all of the host's cores busy, as a second engine on the same host does.

Torch spreads a copy of the size of a step's inputs over all cores, and each step then waits for the slowest of them. So
the engine writes its inputs with one thread (`toolkit.device.write_host`). Both ways are measured, alone and with the
neighbour, in turns: "one" thread, and "all" of them, which is torch's own copy in the place of that function.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest import mock

import torch

from figures.accelerated import in_turns, ms_per_step, numbers, recorded_on
from toolkit import device
from toolkit.commands.decoding import Load, Served, serve
from toolkit.course import use
from toolkit.models import load_model
from toolkit.recordings import Row

__all__ = ["record", "recorded_on"]

MODEL, ROWS, PROMPT_LEN, NEW_TOKENS = "1b", 256, 64, 96
NEIGHBOUR = "import torch\nx = torch.randn(2048, 2048)\nwhile True: x @ x"
START_SECONDS = 8.0  # until the neighbour computes


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    name, rows = ("tiny", 8) if device.is_simulated() else (MODEL, ROWS)
    model = load_model(name, device="cpu" if device.is_simulated() else chosen.type).model
    load = Load(model, rows, PROMPT_LEN, NEW_TOKENS)
    points = [(threads, neighbour) for neighbour in (False, True) for threads in ("one", "all")]
    runs = {f"{threads} {neighbour}": partial(run, load, threads, neighbour) for threads, neighbour in points}
    served = in_turns(runs, ms_per_step)
    return {
        "busy_neighbour": [
            {
                "model": name,
                "rows": rows,
                "host_threads": threads,
                "torch_threads": torch.get_num_threads(),
                "neighbour": neighbour,
                **numbers(served[f"{threads} {neighbour}"]),
            }
            for threads, neighbour in points
        ]
    }


def run(load: Load, threads: str, neighbour: bool) -> Served:
    """One run to its end, with a neighbour or without."""
    from ch08_full_engine import FullEngine

    with busy() if neighbour else alone(), by_torch() if threads == "all" else alone():
        return serve(FullEngine, load)


@contextmanager
def alone() -> Iterator[None]:
    yield


@contextmanager
def busy() -> Iterator[None]:
    """While this lasts, another process multiplies matrices on all cores."""
    process = subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
    try:
        time.sleep(START_SECONDS)
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def by_torch() -> Iterator[None]:
    """While this lasts, inputs are written by torch's own copy."""

    def write(host: torch.Tensor, values: torch.Tensor) -> None:
        host[tuple(map(slice, values.shape))].copy_(values)

    from ch08_full_engine import packed_buffers

    with mock.patch.object(packed_buffers, "write_host", write):
        yield
