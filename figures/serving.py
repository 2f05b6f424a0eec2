"""What the measurements of chapters 1 and 2 share: model and sizes for a device, workloads, and numbers of a run."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from transformers import PreTrainedModel

from toolkit.models import load_model
from toolkit.recordings import Row
from toolkit.timeline import Timeline
from toolkit.workloads import WorkloadItem, fixed, ragged

REPEATS = 3

# Serves a workload, recording on the timeline, and returns its number of steps.
Runner = Callable[[list[WorkloadItem], Timeline], int]


@dataclass(frozen=True)
class Size:
    """How much is measured: a few minutes on two cores, and on a GPU.

    Attributes:
        model: see toolkit.models.
        requests: in a workload.
        rows: of a batch, at most.
        new_tokens: that a request asks for on average.
        prompt_len: shortest and longest prompt.
        long_prompt: the prompt that arrives while others are being served.
    """

    model: str
    requests: int
    rows: int
    new_tokens: int
    prompt_len: tuple[int, int]
    long_prompt: int


SIZES = {
    "cpu": Size("default", requests=16, rows=4, new_tokens=12, prompt_len=(8, 40), long_prompt=384),
    "cuda": Size("8b", requests=32, rows=8, new_tokens=16, prompt_len=(32, 256), long_prompt=8192),
}


def open_model(device: torch.device) -> tuple[Size, PreTrainedModel]:
    """The sizes for a device and the model, ready on it."""
    if device.type == "cpu":
        torch.set_num_threads(1)  # the other core is for the system: two threads that wait for each other vary more
    size = SIZES[device.type]
    return size, load_model(size.model, device=str(device)).model


def workloads(size: Size, vocab_size: int) -> dict[str, list[WorkloadItem]]:
    """Three workloads that ask for the same number of new tokens on average, and differ in how unequally.

    The prompts are the same in all three. In "one in eight long", the others ask for a quarter of the average.
    """
    mean = size.new_tokens
    even = ragged(size.requests, size.prompt_len, (1, 2 * mean - 1), vocab_size=vocab_size)
    short, long = mean // 4, 8 * mean - 7 * (mean // 4)
    return {
        "all equal": [WorkloadItem(item.prompt_ids, mean) for item in even],
        "1 to twice the average": even,
        "one in eight long": [
            WorkloadItem(item.prompt_ids, long if i % 8 == 3 else short) for i, item in enumerate(even)
        ],
    }


def warm_up(run: Runner, vocab_size: int, device: torch.device) -> None:
    """Run a small workload whose times are not looked at."""
    run(fixed(2, 16, 4, vocab_size=vocab_size), Timeline(device))


def measure_run(run: Runner, workload: list[WorkloadItem], device: torch.device) -> dict[str, float]:
    """Numbers of one run over the workload."""
    timeline = Timeline(device)
    start = time.perf_counter()
    steps = run(workload, timeline)
    seconds = time.perf_counter() - start
    recording = timeline.finish()
    return {
        "steps": steps,
        "tokens_per_s": sum(item.max_tokens for item in workload) / seconds,
        "ms_per_step": seconds * 1e3 / steps,
        "host_ms_per_step": recording.host_ms_per_step(),
        "idle_share": recording.idle_share(),
    }


def medians(runs: list[dict[str, float]]) -> Row:
    """The median of each number over several runs of the same thing."""
    return {key: round(median(run[key] for run in runs), 4) for key in runs[0]}
