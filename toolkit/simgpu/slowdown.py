"""What a program pays for being watched: `python -m toolkit.simgpu.slowdown` measures it, in wall-clock time.

The same functions run on the plain CPU and on the simulated GPU (policy eager), on one thread. Each operation costs
some tens of microseconds more, so the smaller the tensors, the slower. The numbers say nothing about a GPU.
"""

import copy
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from toolkit import simgpu

REPEAT = 5
HOST: Any = {"dtype": torch.float32, "device": "cpu"}


def training(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    """One step: forward, backward, AdamW."""
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> float:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def inference(model: nn.Module, x: torch.Tensor) -> Callable[[], object]:
    model.eval()
    return torch.inference_mode()(lambda: model(x).cpu())


def workloads() -> dict[str, tuple[Callable[..., Callable[[], object]], nn.Module, torch.Tensor]]:
    """What to do, with which model, on what."""
    torch.manual_seed(0)

    def layers(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1)
        )

    transformer = nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 4, 1024, 0.0, batch_first=True), 4)
    convolutions = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten())
    return {
        "training step, three layers of 64, 32 rows": (training, layers(64), torch.randn(32, 64, **HOST)),
        "training step, three layers of 1024, 256 rows": (training, layers(1024), torch.randn(256, 1024, **HOST)),
        "training step, two convolutions, 16 images of 64x64": (
            training,
            convolutions,
            torch.randn(16, 3, 64, 64, **HOST),
        ),
        "forward, four transformer layers of 256, 8x64 tokens": (
            inference,
            transformer,
            torch.randn(8, 64, 256, **HOST),
        ),
    }


def milliseconds(call: Callable[[], object]) -> float:
    """The fastest of some calls, after one to warm up."""
    times = []
    for _ in range(REPEAT + 1):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:]) * 1e3


def main() -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {os.cpu_count()} cores of {platform.machine()}, one thread")
    print(f"{'workload':55} {'plain CPU':>11} {'simulated':>11} {'times':>6}")
    for name, (make, model, x) in workloads().items():
        plain = milliseconds(make(copy.deepcopy(model), x))
        with simgpu.as_cuda("eager"):
            watched = milliseconds(make(model.to("cuda"), x.to("cuda")))
        print(f"{name:55} {plain:8.1f} ms {watched:8.1f} ms {watched / plain:6.1f}")


if __name__ == "__main__":
    main()
