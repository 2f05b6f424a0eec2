"""Processes that are looked at and killed while Ray runs, and calls to a server of the API."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil

LONG = 300  # seconds; only waited for where something is wrong
FRONT = ("ServeReplica:serving:Ingress", "ProxyActor")  # what a call goes through before it is at a replica
REPLICA = "ServeReplica:serving:Replica"


def until(holds: Callable[[], Any]) -> Any:  # noqa: ANN401 (what `holds` returns)
    """Wait until something holds, and return it."""
    end = time.monotonic() + LONG
    while not (seen := holds()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {LONG} s")
        time.sleep(0.02)
    return seen


def workers(*names: str) -> list[psutil.Process]:
    """Ray's processes whose title has one of the names in it."""
    return [process for process in psutil.Process().children(recursive=True) if any(n in title(process) for n in names)]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """What these processes have computed so far."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def kill(process: psutil.Process) -> None:
    """As the kernel does when memory is short: at once, and the process is not asked."""
    os.kill(process.pid, signal.SIGKILL)


class Client:
    """One connection to a server, which is kept."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)

    def ask(self, body: dict[str, Any]) -> http.client.HTTPResponse:
        """Send a completion request; the answer is not read yet."""
        self.connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        return self.connection.getresponse()

    def answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body of an answer."""
        response = self.ask(body)
        return response.status, json.loads(response.read())

    def close(self) -> None:
        self.connection.close()


def healthy(port: int) -> bool:
    """Whether a server answers there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
