"""What the chapters measure, and how it is drawn: one folder a chapter, each with a record.py and a draw.py.

    make record CH=4     figures/ch04/record.py measures on this machine and writes figures/data/<device>/NAME.json
    make figures         draws all of figures/NAME.png from such recordings, and from nothing else

record.py has `record(device) -> {recording's name: rows}`. What several chapters measure alike is in serving.py
(chapters 1 and 2) and accelerated.py (3 and up), how all charts look in style.py, what lessons use in recorded.py.

A figure is a function that gets the recordings it names and returns a matplotlib figure:

    @figure("ch00_two_clocks")                       # from figures/data/<device>/ch00_two_clocks.json
    def two_clocks(recording: Recorded) -> Figure: ...

What explains and shows no measurement is in a folder's diagrams.py, each a function of no arguments:

    @diagram("ch03_memory")
    def memory() -> Figure: ...

Where a recording exists for several devices, the first of h100, other GPUs, simulated, cpu that has all of a figure's
recordings is taken; each figure names its device.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

Recorded = dict[str, Any]  # what toolkit.recordings.read_recording returns

FIGURES: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {}
DIAGRAMS: dict[str, Callable[[], Figure]] = {}


def figure(name: str, *recordings: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Register a figure.

    Args:
        name: of the picture, without its ending.
        recordings: the names of what it is drawn from, in the order of the function's arguments; default: `name`.
    """

    def register(draw: Callable[..., Figure]) -> Callable[..., Figure]:
        FIGURES[name] = (recordings or (name,), draw)
        return draw

    return register


def diagram(name: str) -> Callable[[Callable[[], Figure]], Callable[[], Figure]]:
    """Register a picture that explains something and shows no measurement. Such pictures are in a folder's diagrams.py.

    Args:
        name: of the picture, without its ending.
    """

    def register(draw: Callable[[], Figure]) -> Callable[[], Figure]:
        DIAGRAMS[name] = draw
        return draw

    return register


def choose_device(recordings: tuple[str, ...], data: Path) -> str | None:
    """The folder of the device whose recordings are drawn, or None where no device has them all."""
    having = [
        folder.name for folder in data.glob("*/") if all((folder / f"{name}.json").is_file() for name in recordings)
    ]
    return min(having, key=lambda name: ({"h100": 0, "simulated": 2, "cpu": 3}.get(name, 1), name), default=None)
