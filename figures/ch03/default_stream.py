"""A short kernel on one stream while another one sleeps; and the same with all code loaded at the start.

python -m figures.ch03.default_stream       # prints the first as JSON: how the second runs it, in new processes
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from figures.accelerated import clock
from toolkit import device
from toolkit.recordings import ROOT, Row

SLEEP_MS = 150.0  # how long the device is kept busy while something else is timed


def start_afresh() -> None:
    if device.is_simulated():
        device.accelerator.reset(on_race="collect")
    device.sleep(0.01)  # measures the sleeping kernel, and loads it
    device.accelerator.synchronize()


def default_stream() -> list[Row]:
    """A kernel on one stream while another one sleeps: how long until it is done, call by call.

    Each pair of streams gets a kernel that nothing has used before.
    """
    start_afresh()
    default = device.accelerator.default_stream()
    first, second = device.new_stream("first"), device.new_stream("second")
    values = torch.ones(1000, dtype=torch.float32, device=device.DEVICE)
    pairs: list[tuple[str, Any, Any, Callable[[], object]]] = [
        ("sleep on the default stream, kernel on another", default, first, lambda: torch.hypot(values, values)),
        ("sleep on another stream, kernel on the default", first, default, lambda: torch.fmod(values, values)),
        ("sleep and kernel on two other streams", first, second, lambda: torch.atan2(values, values)),
    ]
    rows: list[Row] = []
    for name, sleeping, other, kernel in pairs:
        for call in range(3):
            device.accelerator.synchronize()
            with device.accelerator.stream(sleeping):
                device.sleep(SLEEP_MS)
            start = device.now_ms()
            with device.accelerator.stream(other):
                kernel()
            launched = device.now_ms()
            other.synchronize()
            rows.append(
                {
                    "streams": name,
                    "call": call,
                    "launched_ms": round(launched - start, 4),
                    "done_ms": round(device.now_ms() - start, 4),
                    "sleep_ms": SLEEP_MS,
                    "clock": clock(),
                }
            )
    device.accelerator.synchronize()
    return rows


def module_loading() -> list[Row]:
    """`default_stream` where code is loaded at its first use, and where all of it is loaded before anything runs.

    CUDA reads the variable when a process first uses the GPU, so each of the two is a process of its own.
    """
    rows: list[Row] = []
    for loading in ("LAZY", "EAGER"):
        child = subprocess.run(
            [sys.executable, "-m", "figures.ch03.default_stream"],
            cwd=ROOT,
            env=os.environ | {"CUDA_MODULE_LOADING": loading},
            stdout=subprocess.PIPE,
            check=True,
        )
        rows += [{"loading": loading, **row} for row in json.loads(child.stdout)]
    return rows


if __name__ == "__main__":
    print(json.dumps(default_stream()))
