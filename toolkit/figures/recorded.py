"""Figures for a lesson, drawn from the recordings that there are, in the notebook itself.

A lesson that comes with a figure's file shows the file. This is for measurements that are made by a command of their
own, when somebody has the machine for it: the lesson says plainly what is not recorded yet.
"""

import importlib
from pathlib import Path

from matplotlib.figure import Figure

from toolkit.figures import FIGURES, choose_device
from toolkit.recordings import DATA, read_recording


def recorded_figures(module: str, *names: str, data: Path = DATA) -> list[Figure]:
    """Draw these figures of `toolkit.figures.<module>`; print a line for each that there is no recording for."""
    importlib.import_module(f"toolkit.figures.{module}")
    pictures = []
    for name in names:
        recordings, draw = FIGURES[name]
        device = choose_device(recordings, data)
        if device is None:
            print(f"{name}: not recorded yet")
        else:
            pictures.append(draw(*(read_recording(data / device / f"{recording}.json") for recording in recordings)))
    return pictures
