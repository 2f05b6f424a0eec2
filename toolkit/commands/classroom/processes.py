"""What a process and all that it has started use, and ending them; on every system."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil


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
