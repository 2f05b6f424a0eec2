"""What a step costs the host: the time in `step`, less what it waits for the device in there.

By the engine's own metrics and two readings of the clock. A timeline would add half as much to what is measured: it
opens a span for each phase and records six events a step.
"""

from statistics import median
from typing import Any

from toolkit import device


class HostWork:
    """Steps an engine of chapter 8 or 9 and notes what each step costs. Times are virtual where the GPU is simulated.

    Attributes:
        ms: of each step.
    """

    def __init__(self, engine: Any) -> None:  # noqa: ANN401 (a FullEngine, of whichever code runs)
        self.engine = engine
        self.ms: list[float] = []

    def step(self) -> Any:  # noqa: ANN401 (what the engine's `step` returns)
        metrics = self.engine.metrics
        start, waiting_ms = device.now_ms(), metrics.waiting_ms
        outputs = self.engine.step()
        self.ms.append(device.now_ms() - start - (metrics.waiting_ms - waiting_ms))
        return outputs

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    @property
    def median_ms(self) -> float | None:
        """None before the first step. (The median, since other programs on the machine hold up a step now and then.)"""
        return round(median(self.ms), 4) if self.ms else None
