"""What the host's work costs on the virtual clock. On a real GPU real time passes by itself, and this does nothing."""

from ch02_continuous_batching.observers import Observer
from toolkit.device import host_work

# Round figures in ms: for each step, and for each of its rows.
PER_STEP = {"prepare": 0.8, "commit": 0.5}
PER_ROW = 0.04


class HostPrices(Observer):
    """Declares the host's work to the simulated GPU.

    Args:
        per_row: ms for each row of a step.
    """

    def __init__(self, per_row: float = PER_ROW) -> None:
        self.per_row = per_row

    def work(self, phase: str, *, rows: int) -> None:
        host_work(PER_STEP[phase] + self.per_row * rows, phase)
