"""A process and all that it has started: how much they use, and ending them where that is too much; on every system."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

TICK = 0.5  # seconds between two looks


@dataclass(frozen=True)
class Limits:
    """Of one chapter's check: seconds, and megabytes of memory and of files with what is left behind or printed."""

    seconds: float = 1200
    memory_mb: int = 4000
    output_mb: int = 200


class OverLimit(Exception):
    """The handed-in code was ended; the message says why, as a sentence about it."""


def watch(process: subprocess.Popen[bytes], folder: Path, limits: Limits) -> None:
    """Wait until the process ends, which writes into this folder.

    Raises:
        OverLimit: it does not end in time, or uses too much.
    """
    started, before = time.monotonic(), size_mb(folder)
    while process.poll() is None:
        if time.monotonic() - started > limits.seconds:
            raise OverLimit(f"it took more than {limits.seconds:.0f} seconds")
        if memory_mb(process.pid) > limits.memory_mb:
            raise OverLimit(f"it needed more than {limits.memory_mb} MB of memory")
        if size_mb(folder) > limits.output_mb + before:
            raise OverLimit(f"it wrote more than {limits.output_mb} MB")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(TICK)


def family(process_id: int) -> Iterator[psutil.Process]:
    """A process and all that it has started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(process_id)
        yield from (first, *first.children(recursive=True))


def memory_mb(process_id: int) -> float:
    total = 0
    for process in family(process_id):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_info().rss
    return total / 1e6


def size_mb(folder: Path) -> float:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone by now
                total += os.lstat(os.path.join(where, name)).st_size
    return total / 1e6


def end(process: subprocess.Popen[bytes]) -> None:
    """End it with all that it has started."""
    for each in list(family(process.pid)) if process.poll() is None else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()
