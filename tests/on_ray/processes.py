"""The processes that Ray starts, to look at and to kill."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

LONG = 300  # seconds; only waited for where something is wrong


def until(holds: Callable[[], Any], what: str) -> Any:
    """Wait until something holds, and return it."""
    end = time.monotonic() + LONG
    while not (seen := holds()):
        assert time.monotonic() < end, f"waited {LONG} s without effect: {what}"
        time.sleep(0.01)
    return seen


def below(pid: int) -> list[psutil.Process]:
    """All processes that this one has started, and those that they have."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(pid: int, name: str) -> list[psutil.Process]:
    """Ray's workers below a process whose title contains `name`: ray::ServeReplica:... or ray::MapWorker(...)."""
    return [process for process in below(pid) if name in title(process)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def kill(process: psutil.Process) -> None:
    """As the kernel does when memory is short: without a word, and nothing can be done about it."""
    os.kill(process.pid, signal.SIGKILL)


def foreign_listeners(pid: int) -> list[str]:
    """Where a process and those below it listen, if that is not loopback."""
    seen = [
        f"{process.pid} {title(process)[:60].strip()} {connection.laddr}"
        for process in [psutil.Process(pid), *below(pid)]
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")
    ]
    return seen
