"""Chapter 0's measurements: first calls, the two clocks, and a few steps of host and device taking turns.

On a CPU a worker thread plays the device (toolkit.worker_queue), with one core for it and one for the host.
"""

import time
from collections.abc import Callable
from functools import partial

import torch

from solutions.ch00_measuring.timing import measure
from toolkit.recordings import Row
from toolkit.timed_device import Accelerator
from toolkit.timeline import Timeline
from toolkit.worker_queue import open_queue

# Sizes of square matrices, chosen so that the largest product takes some tens of milliseconds.
SIZES = {"cpu": (128, 256, 512, 1024), "cuda": (1024, 2048, 4096, 8192)}
STEPS = 9
PRODUCTS_PER_STEP = 6


def record(device: torch.device) -> dict[str, list[Row]]:
    accelerator, launch = open_queue(device)
    recordings = {
        "ch00_first_calls": first_calls(device, accelerator, launch),  # first: nothing may be warm
        "ch00_two_clocks": two_clocks(device, accelerator, launch),
        "ch00_steps": steps(device, accelerator, launch),
    }
    if device.type == "cuda":
        recordings["ch00_behind_busy_device"] = first_use_behind_busy_device()
    return recordings


def product(device: torch.device, size: int) -> Callable[[], torch.Tensor]:
    left, right, out = (torch.ones(size, size, dtype=torch.float32, device=device) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def first_calls(
    device: torch.device, accelerator: Accelerator, launch: Callable[[Callable[[], object]], object]
) -> list[Row]:
    """The same product ten times from a cold start, each until the device is done, on the host's clock."""
    work = product(device, SIZES[device.type][1])
    rows: list[Row] = []
    for call in range(10):
        accelerator.synchronize()
        start = time.perf_counter()
        launch(work)
        accelerator.synchronize()
        rows.append({"call": call, "ms": round((time.perf_counter() - start) * 1e3, 4)})
    return rows


def two_clocks(
    device: torch.device, accelerator: Accelerator, launch: Callable[[Callable[[], object]], object]
) -> list[Row]:
    """One product for each size: how long it keeps the host, how long the device."""
    rows: list[Row] = []
    for size in SIZES[device.type]:
        timing = measure(partial(launch, product(device, size)), accelerator, repeats=9)
        rows.append({"size": size, "host_ms": round(timing.host_ms, 5), "device_ms": round(timing.device_ms, 5)})
    return rows


def steps(
    device: torch.device, accelerator: Accelerator, launch: Callable[[Callable[[], object]], object]
) -> list[Row]:
    """Steps as a synchronous engine takes them: prepare on the host, launch, wait for the device, commit."""
    work = product(device, SIZES[device.type][2])
    timeline = Timeline(device, accelerator=accelerator)
    with timeline.device("warm-up"):
        launch(work)
    accelerator.synchronize()
    device_ms = measure(partial(launch, work), accelerator).device_ms * PRODUCTS_PER_STEP
    for step in range(STEPS):
        with timeline.host("prepare", step=step):
            host_work(0.25 * device_ms)
        with timeline.host("launch", step=step), timeline.device("forward", step=step):
            for _ in range(PRODUCTS_PER_STEP):
                launch(work)
        with timeline.host("wait", step=step):
            accelerator.synchronize()
        with timeline.host("commit", step=step):
            host_work(0.1 * device_ms)
    return list(timeline.finish().rows())


def host_work(ms: float) -> None:
    """Keep the host busy for some milliseconds, as scheduling and detokenising would."""
    until = time.perf_counter() + ms / 1e3
    while time.perf_counter() < until:
        sum(range(100))


def first_use_behind_busy_device() -> list[Row]:
    """A short kernel on one stream while another stream sleeps: how long until it is done, call by call.

    The two streams do not wait for each other. But the first use of a kernel loads its code, and loading waits until
    the whole device is idle.
    """
    busy, other = torch.cuda.Stream(), torch.cuda.Stream()
    values = torch.rand(1000, dtype=torch.float32, device="cuda")
    sleep_cycles = 1_000_000
    sleep = measure(lambda: torch.cuda._sleep(sleep_cycles), torch.cuda)
    cycles = int(sleep_cycles * 150 / sleep.device_ms)
    rows: list[Row] = []
    for call in range(5):
        torch.cuda.synchronize()
        with torch.cuda.stream(busy):
            torch.cuda._sleep(cycles)
        start = time.perf_counter()
        with torch.cuda.stream(other):
            torch.atan2(values, values)  # nothing before this has used the kernel
        other.synchronize()
        rows.append({"call": call, "ms": round((time.perf_counter() - start) * 1e3, 4), "sleep_ms": 150})
    return rows
