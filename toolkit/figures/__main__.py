"""Redraw every figure of the chapters from the recordings in figures/data: `python -m toolkit.figures`."""

import importlib
import pkgutil
from pathlib import Path

import toolkit.figures
from toolkit.errors import exit_cleanly
from toolkit.figures import FIGURES, choose_device
from toolkit.files import write_whole
from toolkit.recordings import DATA, ROOT, read_recording
from toolkit.timeline.picture import png_bytes


def draw_all(data: Path = DATA, target: Path = ROOT / "figures") -> list[str]:
    """Draw what there are recordings for and return a line for each figure."""
    for module in pkgutil.iter_modules(toolkit.figures.__path__):
        if module.name.startswith("ch") or module.name in ("peers", "host_cost", "roofline"):
            importlib.import_module(f"toolkit.figures.{module.name}")
    report = []
    for name, (recordings, draw) in sorted(FIGURES.items()):
        device = choose_device(recordings, data)
        if device is None:
            chapter = name if name == "host_cost" else name.split("_")[0]
            command = "toolkit.commands.bench" if chapter == "peers" else f"toolkit.record {chapter}"
            report.append(f"not drawn {name}: no recording yet, make one with python -m {command}")
            continue
        picture = draw(*(read_recording(data / device / f"{recording}.json") for recording in recordings))
        write_whole(target / f"{name}.png", png_bytes(picture))
        report.append(f"drew      {name}.png  from {device}")
    return report


def main() -> None:
    print("\n".join(draw_all()))


if __name__ == "__main__":
    exit_cleanly(main)
