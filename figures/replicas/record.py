"""Chapter 10 in several processes: what Ray's way costs a call, what clients see of a death, a model in two shares.

    make record CH=replicas      Ray has an environment of its own, .venv-ray, which this makes first

The servers are those of `make serve` and `make serve-ray`, with the tiny model and two replicas. One client asks one
call at a time, for one token: what takes time then is the way there and back. `front_cpu_ms` is what the processes in
front of the replicas compute for a call, beyond what they compute when there is none; a single one of them cannot take
more calls a second than fit there.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial

import psutil
import torch

from figures.replicas.processes import FRONT, REPLICA, Client, cpu_seconds, healthy, kill, until, workers
from figures.replicas.ranks import in_shares
from figures.replicas.services import service
from toolkit.course import use
from toolkit.recordings import ROOT, Row

REPLICAS, ROWS = 2, 16
CALLS = 200
IDLE = 5.0  # seconds
PATIENCE = 60.0 if torch.cuda.is_available() else 6.0  # seconds without a step after which an engine counts as hung
SHORT = {"model": "tiny", "prompt": [10, 11, 12], "max_tokens": 1, "temperature": 0}
LONGER = {"model": "tiny", "prompt": "Hello there", "max_tokens": 300, "temperature": 1.0, "seed": 9}
HANGING = {"model": "tiny", "prompt": "7 bytes", "max_tokens": 1}


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    ranks = in_shares()  # first: Ray, once started, would share the cores with it
    alone = hop_of_uvicorn()
    with replicas() as port:
        return {
            "replicas_hop": [alone, hop("Ray Serve", port)],
            "replicas_failures": [killed(port), killed_in_a_stream(port), hung(port)],
            "replicas_ranks": ranks,
        }


@contextmanager
def replicas() -> Iterator[int]:
    """The port of the API on two replicas."""
    from ch10_serving.local_ray import started
    from ch10_serving.serve import listen

    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with started(REPLICAS) as resources:
        from ch10_serving.replicas import deploy

        deploy(partial(service, ROWS), REPLICAS, resources, ROWS, port, patience=PATIENCE)
        yield port


def hop_of_uvicorn() -> Row:
    """The same calls to one engine, whose process listens itself."""
    from ch10_serving.serve import listen

    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "toolkit.commands.serve", "--model", "tiny", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until(partial(healthy, port))
        return hop("uvicorn", port)
    finally:
        server.terminate()
        server.wait()


def hop(way: str, port: int) -> Row:
    """What a call takes, from its connection to the last byte of its answer, and with a connection that is kept."""
    front = workers(*FRONT)
    calls_ms(port, CALLS // 4, kept=False)  # what happens for the first time takes longer
    before, start = cpu_seconds(front), time.perf_counter()
    time.sleep(IDLE)
    idle = (cpu_seconds(front) - before) / (time.perf_counter() - start)
    before, start = cpu_seconds(front), time.perf_counter()
    times = calls_ms(port, CALLS, kept=False)
    for_calls = cpu_seconds(front) - before - idle * (time.perf_counter() - start)
    return {
        "way": way,
        "calls": CALLS,
        "median_ms": round(statistics.median(times), 2),
        "p95_ms": round(sorted(times)[CALLS * 95 // 100], 2),
        "kept_median_ms": round(statistics.median(calls_ms(port, CALLS, kept=True)), 2),
        "front_processes": len(front),
        "front_cpu_ms": round(for_calls * 1e3 / CALLS, 2) if front else None,
    }


def calls_ms(port: int, count: int, kept: bool) -> list[float]:
    """Milliseconds of each of so many calls for one token, over one connection or each over one of its own."""
    times, client = [], Client(port)
    for _ in range(count):
        start = time.perf_counter()
        status, body = client.answer(SHORT)
        if not kept:
            client.close()  # http.client opens the next one by itself
        assert status == 200, body
        times.append((time.perf_counter() - start) * 1e3)
    client.close()
    return times


def the_one_that_works() -> psutil.Process:
    """The replica that has a request."""
    return until(lambda: workers(f"{REPLICA}.handle_request"))[0]


def both_rest() -> None:
    """Wait until all replicas are there and have nothing to do."""
    until(lambda: len(workers(REPLICA)) == REPLICAS and not workers(f"{REPLICA}.handle_request"))


def killed(port: int) -> Row:
    """SIGKILL for the replica that has a request: when is it answered, and with what?"""
    both_rest()
    with closing(Client(port)) as client, ThreadPoolExecutor(1) as pool:
        start = time.perf_counter()
        _, undisturbed = client.answer(LONGER)
        alone = time.perf_counter() - start
        both_rest()
        disturbed = pool.submit(client.answer, LONGER)
        kill(the_one_that_works())
        start = time.perf_counter()
        status, body = disturbed.result()
        seconds = time.perf_counter() - start
    until(lambda: len(workers(REPLICA)) == REPLICAS)
    return {
        "what": "killed, answer as a whole",
        "status": status,
        "seconds": round(seconds, 2),
        "undisturbed_s": round(alone, 2),
        "same_text": body.get("choices", [{}])[0].get("text") == undisturbed["choices"][0]["text"],
        "two_again_s": round(time.perf_counter() - start, 2),
        "said": "",
    }


def killed_in_a_stream(port: int) -> Row:
    """SIGKILL for a replica when the client has seen the beginning of its answer."""
    both_rest()
    with closing(Client(port)) as client:
        response = client.ask(LONGER | {"max_tokens": 900, "stream": True})
        response.readline()
        kill(the_one_that_works())
        start = time.perf_counter()
        events = response.read().decode().strip().split("\n\n")
        seconds = time.perf_counter() - start
    until(lambda: len(workers(REPLICA)) == REPLICAS)
    return {
        "what": "killed, stream",
        "status": response.status,
        "seconds": round(seconds, 2),
        "undisturbed_s": None,
        "same_text": None,
        "two_again_s": round(time.perf_counter() - start, 2),
        "said": json.loads(events[-1].removeprefix("data: "))["error"]["message"],
    }


def hung(port: int) -> Row:
    """A request on which every engine hangs."""
    both_rest()
    with closing(Client(port)) as client:
        start = time.perf_counter()
        status, body = client.answer(HANGING)
        seconds = time.perf_counter() - start
    until(lambda: len(workers(REPLICA)) == REPLICAS)
    return {
        "what": f"every engine hangs, patience {PATIENCE:g} s",
        "status": status,
        "seconds": round(seconds, 2),
        "undisturbed_s": None,
        "same_text": None,
        "two_again_s": round(time.perf_counter() - start, 2),
        "said": body["error"]["message"],
    }
