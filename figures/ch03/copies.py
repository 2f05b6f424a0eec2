"""How fast copies between host and device are, from pinned and from pageable memory."""

from statistics import median
from typing import Any

import torch

from figures.accelerated import clock
from figures.ch03.default_stream import start_afresh
from toolkit import device
from toolkit.recordings import Row

SIZES = (4 * 2**10, 256 * 2**10, 4 * 2**20, 64 * 2**20)  # bytes
REPEATS = 7


def copy_speeds() -> list[Row]:
    """Copies in both directions: from the call until the bytes are there, and how many GB/s that makes.

    The host's clock, the median of a few repeats; the call's own cost is included. Both kinds of memory are copied with
    non_blocking=True.
    """
    start_afresh()
    rows: list[Row] = []
    for nbytes in SIZES:
        host: Any = {"dtype": torch.uint8, "device": "cpu"}
        there = torch.zeros(nbytes, dtype=torch.uint8, device=device.DEVICE)
        sides = {"pinned": torch.ones(nbytes, **host, pin_memory=True), "pageable": torch.ones(nbytes, **host)}
        for direction in ("to the device", "to the host"):
            for memory, here in sides.items():
                target, source = (there, here) if direction == "to the device" else (here, there)
                ms = median(_copied_ms(target, source) for _ in range(REPEATS))
                rows.append(
                    {
                        "direction": direction,
                        "memory": memory,
                        "bytes": nbytes,
                        "ms": round(ms, 4),
                        "gb_per_s": round(nbytes / ms / 1e6, 2),
                        "clock": clock(),
                    }
                )
    return rows


def _copied_ms(target: torch.Tensor, source: torch.Tensor) -> float:
    device.accelerator.synchronize()
    start = device.now_ms()
    target.copy_(source, non_blocking=True)
    device.accelerator.synchronize()
    return device.now_ms() - start
