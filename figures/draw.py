"""Redraw every figure of the chapters from the recordings in figures/data, and every diagram: `make figures`.

Without make: python -m figures.draw
"""

from pathlib import Path

from figures import DIAGRAMS, FIGURES, choose_device
from figures.rooms import load, record_command, rooms
from toolkit.errors import exit_cleanly
from toolkit.files import write_whole
from toolkit.recordings import DATA, ROOT, read_recording
from toolkit.timeline.picture import png_bytes


def draw_all(data: Path = DATA, target: Path = ROOT / "figures") -> list[str]:
    """Draw what there are recordings for and return a line for each figure."""
    for room in rooms("draw"):
        load(room, "draw")
    report = []
    for name, (recordings, draw) in sorted(FIGURES.items()):
        device = choose_device(recordings, data)
        if device is None:
            room = draw.__module__.split(".")[1]
            report.append(f"not drawn {name}: no recording yet, make one with {record_command(room)}")
            continue
        picture = draw(*(read_recording(data / device / f"{recording}.json") for recording in recordings))
        write_whole(target / f"{name}.png", png_bytes(picture))
        report.append(f"drew      {name}.png  from {device}")
    return report


def draw_diagrams(target: Path = ROOT / "figures") -> list[str]:
    """Draw what shows no measurement and return a line for each picture."""
    for room in rooms("diagrams"):
        load(room, "diagrams")
    for name, draw in sorted(DIAGRAMS.items()):
        write_whole(target / f"{name}.png", png_bytes(draw()))
    return [f"drew      {name}.png" for name in sorted(DIAGRAMS)]


def main() -> None:
    print("\n".join([*draw_all(), *draw_diagrams()]))


if __name__ == "__main__":
    exit_cleanly(main)
