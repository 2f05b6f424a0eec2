"""What lessons show of the recordings that there are: their numbers, and figures drawn in the notebook itself.

A lesson that comes with a figure's file shows the file. `recorded_figures` is for measurements that are made by a
command of their own, when somebody has the machine for it: the lesson says plainly what is not recorded yet.
"""

from pathlib import Path

from matplotlib.figure import Figure

from figures import FIGURES, Recorded, choose_device
from figures.rooms import load
from toolkit.recordings import DATA, read_recording


def recorded(name: str) -> list[Recorded]:
    """The repository's recordings of that name, one for each device."""
    return [read_recording(path) for path in sorted(DATA.glob(f"*/{name}.json"))]


def drawn_from(name: str, data: Path = DATA) -> Recorded:
    """Of the recordings of that name the one that figures are drawn from."""
    device = choose_device((name,), data)
    return read_recording(data / (device or "cpu") / f"{name}.json")


def recorded_figures(room: str, *names: str, data: Path = DATA) -> list[Figure]:
    """Draw these figures of one folder, such as "ch07"; print a line for each that there is no recording for."""
    load(room, "draw")
    pictures = []
    for name in names:
        recordings, draw = FIGURES[name]
        device = choose_device(recordings, data)
        if device is None:
            print(f"{name}: not recorded yet")
        else:
            pictures.append(draw(*(read_recording(data / device / f"{recording}.json") for recording in recordings)))
    return pictures
