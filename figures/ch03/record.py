"""Chapter 3's measurements: what waits for what, the forward as one launch, and three streams without order."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from figures.accelerated import (
    RUNS,
    clock,
    engine_with,
    numbers,
    one_stream_engine,
    open_load,
    opened,
    policies,
    recorded_on,
)
from figures.ch03.copies import copy_speeds
from figures.ch03.default_stream import SLEEP_MS, default_stream, module_loading, start_afresh
from solutions.ch00_measuring.timing import measure
from toolkit import device
from toolkit.commands.decoding import Load, serve
from toolkit.course import use
from toolkit.recordings import Row

__all__ = ["record", "recorded_on"]

WIDEN_MS = 20.0  # how late the copies in come where the race is widened
MEGABYTES = 64


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    rows: dict[str, list[Row]] = {
        "ch03_default_stream": default_stream(),
        "ch03_host_waits": host_waits(),
        "ch03_copies": copy_speeds(),
    }
    if not device.is_simulated():  # which has no code to load
        rows["ch03_module_loading"] = module_loading()
    load = open_load()
    rows["ch03_forward"] = forward(load)
    from ch03_streams.build import build

    rows["ch03_steps"] = list(serve(build, load).recording.rows())
    del load
    rows["ch03_wrong"] = wrong(open_load("1b", new_tokens=16))
    return rows


def host_waits() -> list[Row]:
    """What keeps the host while the device is busy: each call right behind a long sleep on the same stream."""
    start_afresh()
    count = MEGABYTES * 2**20 // 4
    here: Any = {"dtype": torch.float32, "device": device.DEVICE}
    host: Any = {"dtype": torch.float32, "device": "cpu"}
    large, small = torch.ones(count, **here), torch.ones(1024, **here)
    pinned, pageable = torch.ones(count, **host, pin_memory=True), torch.ones(count, **host)
    small_pageable, mask = torch.ones(1024, **host), torch.ones(1024, dtype=torch.bool, device=device.DEVICE)
    calls: dict[str, Callable[[], object]] = {
        "launch of a kernel": lambda: small + 1,
        f"pinned to device, {MEGABYTES} MB, non_blocking": lambda: large.copy_(pinned, non_blocking=True),
        f"device to pinned, {MEGABYTES} MB, non_blocking": lambda: pinned.copy_(large, non_blocking=True),
        "pageable to device, 4 KB, non_blocking": lambda: small.copy_(small_pageable, non_blocking=True),
        f"pageable to device, {MEGABYTES} MB, non_blocking": lambda: large.copy_(pageable, non_blocking=True),
        f"device to pageable, {MEGABYTES} MB, non_blocking": lambda: pageable.copy_(large, non_blocking=True),
        f"pinned to device, {MEGABYTES} MB, blocking": lambda: large.copy_(pinned),
        ".item()": lambda: small[0].item(),
        ".cpu()": lambda: small.cpu(),
        'torch.tensor(..., device="cuda")': lambda: torch.tensor([1.0], **here),
        "x[mask]": lambda: small[mask],
    }
    rows: list[Row] = []
    for name, call in calls.items():
        call()
        device.accelerator.synchronize()
        device.sleep(SLEEP_MS)
        start = device.now_ms()
        call()
        rows.append({"call": name, "ms": round(device.now_ms() - start, 4), "sleep_ms": SLEEP_MS, "clock": clock()})
        device.accelerator.synchronize()
    return rows


def forward(load: Load) -> list[Row]:
    """A decode forward launched kernel by kernel, and as one launch: how long it keeps the host, and the device."""
    from ch03_streams.build import build

    if device.is_simulated():
        device.accelerator.reset(on_race="collect")
    executor: Any = build(load.model, **load.limits).executor
    buffers = executor.pool.buffers[0]

    def launch() -> None:
        executor.forward.launch(buffers.forward_inputs, buffers.device_ids, buffers.full_decode)

    timed = partial(measure, launch, device.accelerator, now=lambda: device.now_ms() / 1e3)
    with opened(executor.forward):
        eager = timed()
    launched = timed()
    return [
        {
            "forward": name,
            "rows": load.requests,
            "host_ms": round(timing.host_ms, 4),
            "device_ms": round(timing.device_ms, 4),
            "clock": clock(),
        }
        for name, timing in (("kernel by kernel", eager), ("one launch", launched))
    ]


def wrong(load: Load) -> list[Row]:
    """The share of wrong tokens: all work on one stream, on three streams, and with the copies in coming late.

    On a simulated GPU "late" is a matter of the policy: eager does everything at once, random:SEED when it likes.
    """
    from ch02_continuous_batching import Batch
    from ch03_streams import IOBuffers, StreamExecutor

    class LateExecutor(StreamExecutor):
        def copy_in(self, batch: Batch, buffers: IOBuffers) -> None:
            device.sleep(WIDEN_MS)
            super().copy_in(batch, buffers)

    right = serve(one_stream_engine(), load).outputs
    rows: list[Row] = []
    for name, build, late in (
        ("one stream", one_stream_engine(), False),
        ("three streams", engine_with(StreamExecutor), False),
        ("three streams, copies in late", engine_with(LateExecutor), True),
    ):
        for run, policy in zip(range(RUNS), policies(late), strict=True):
            served = serve(build, load, policy)
            rows.append(
                {
                    "engine": name,
                    "run": run,
                    "policy": policy if device.is_simulated() else None,
                    "late_ms": WIDEN_MS if late else 0.0,
                    "wrong_share": round(served.wrong_share(right), 4),
                    "races": count_races(),
                    **numbers(served),
                }
            )
    return rows


def count_races() -> int | None:
    """Pairs of operations that the detector reported in the last run, each pair of names once; None on a GPU."""
    if not device.is_simulated():
        return None
    return len({(race.first.name, race.second.name, race.missing_edge) for race in device.accelerator.races()})
