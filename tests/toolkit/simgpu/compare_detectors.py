"""Who notices the pipeline's five mistakes: the numbers, PyTorch's stream sanitizer, or this detector?

    python -m tests.toolkit.simgpu.compare_detectors

Prints the table of docs/simulator.md. On a machine without CUDA the sanitizer's own logic
(`torch.cuda._sanitizer.EventHandler`) is fed with what happens on the simulated GPU, as its hooks would see it:
device tensors only. On a machine with CUDA the pipeline runs on the GPU, with the sanitizer itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.cuda._sanitizer import CUDASanitizerErrors, EventHandler, enable_cuda_sanitizer

from tests.toolkit.simgpu import pipeline
from toolkit.device import DEVICE, is_simulated

RUNS_ON_CUDA, SEEDS = 5, 100


@contextmanager
def sanitizer_listens() -> Iterator[list[Any]]:
    """While open, PyTorch's sanitizer is told of every launch and every event; yields what it reports."""
    from toolkit import simgpu
    from toolkit.simgpu.runtime import Runtime

    handler, found, numbers = EventHandler(), [], {}
    launch = Runtime.launch
    record, wait, synchronize = simgpu.Event.record, simgpu.Event.wait, simgpu.Event.synchronize

    def number(thing: object) -> int:
        return numbers.setdefault(thing, 1000 + len(numbers))

    def addresses(footprints) -> set[int]:
        device = (each for each in footprints if each.block.kind == "device")
        return {each.block.data.data_ptr() + each.region.lo for each in device}

    def launch_too(self, stream, name, work, reads, writes, *rest, **more) -> None:
        read, written = addresses(reads), addresses(writes)
        names = {each: [hex(each)] for each in read | written}
        found.extend(handler._handle_kernel_launch(number(stream), read - written, written, written, name, names))
        launch(self, stream, name, work, reads, writes, *rest, **more)

    def record_too(self, stream=None) -> None:
        record(self, stream)
        handler._handle_event_record(number(self), number(stream or simgpu.current_stream()))

    def wait_too(self, stream=None) -> None:
        wait(self, stream)
        handler._handle_event_wait(number(self), number(stream or simgpu.current_stream()))

    def synchronize_too(self) -> None:
        synchronize(self)
        handler._handle_event_synchronization(number(self))

    def wait_stream_too(self, other) -> None:
        wait_too(other.record_event(), self)

    with (
        mock.patch.object(Runtime, "launch", launch_too),
        mock.patch.object(simgpu.Event, "record", record_too),
        mock.patch.object(simgpu.Event, "wait", wait_too),
        mock.patch.object(simgpu.Event, "synchronize", synchronize_too),
        mock.patch.object(simgpu.Stream, "wait_stream", wait_stream_too),
    ):
        yield found


def right(bug: str | None, rows: int = 8, width: int = 16) -> bool:
    """Does the pipeline, run once with this mistake, give the right numbers?"""
    batches, weights, expected = pipeline.example(rows=rows, width=width)
    return torch.allclose(pipeline.serve(batches, weights.to(DEVICE), bug), expected, atol=1e-4)


def simulated_row(bug: str | None) -> list[str]:
    from toolkit import simgpu

    def under(policy: str) -> bool:
        simgpu.reset(policy, on_race="collect")
        return right(bug)

    lucky, unlucky = under("eager"), under("lazy")
    wrong = sum(not under(f"random:{seed}") for seed in range(SEEDS))
    simgpu.reset("eager", on_race="collect")
    with sanitizer_listens() as reports:
        right(bug)
    words = {True: "right", False: "wrong"}
    ours = len(simgpu.races())
    return [words[lucky], words[unlucky], f"{wrong} of {SEEDS}", str(len(reports)), str(ours)]


def cuda_numbers(bug: str | None) -> list[str]:
    """How often the numbers are right: for batches of 512 bytes, which arrive in time by luck, and of 16 MiB."""
    small = sum(right(bug) for _ in range(RUNS_ON_CUDA))
    large = sum(right(bug, rows=2048, width=2048) for _ in range(RUNS_ON_CUDA))
    return [f"{count} of {RUNS_ON_CUDA}" for count in (small, large)]


def cuda_sanitizer(bug: str | None) -> str:
    """What PyTorch's stream sanitizer says of one run. It raises at the first launch that it objects to."""
    try:
        right(bug)
    except CUDASanitizerErrors as errors:
        return f"reports ({errors})"
    finally:
        torch.cuda.synchronize()
    return "nothing"


def main() -> None:
    mistakes = (None, *pipeline.BUGS)
    if is_simulated():
        head = "numbers, eager|numbers, lazy|wrong random seeds|PyTorch's sanitizer: reports|ours: reports"
        rows = [simulated_row(bug) for bug in mistakes]
    else:
        head = f"right numbers on {torch.cuda.get_device_name()}, small|the same, large|PyTorch's sanitizer"
        rows = [cuda_numbers(bug) for bug in mistakes]
        enable_cuda_sanitizer()  # cannot be switched off again, so the numbers come first
        rows = [[*row, cuda_sanitizer(bug)] for bug, row in zip(mistakes, rows, strict=True)]
    print(f"|mistake|{head}|")
    print("|---" * (head.count("|") + 2) + "|")
    for bug, row in zip(mistakes, rows, strict=True):
        print("|".join(["", bug or "none: correct", *row, ""]))


if __name__ == "__main__":
    main()
