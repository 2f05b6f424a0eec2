"""What must hold of the measurements of every chapter on the accelerator, taken on the simulated GPU."""

from pathlib import Path
from types import ModuleType

import torch

from figures import FIGURES
from figures.draw import draw_all
from toolkit.recordings import read_recording, write_recording


def assert_recorded_and_drawn(chapter: ModuleType, folder: Path) -> None:
    """Every row says that it is simulated, the same again gives the same rows, and each figure can be drawn from them.

    Args:
        chapter: a record.py of figures/ with a load that is small enough for a test.
        folder: an empty one, for what is recorded and drawn.
    """
    number = chapter.__name__.split(".")[1]
    where = chapter.recorded_on(torch.device("cpu"))
    first, second = chapter.record(torch.device("cpu")), chapter.record(torch.device("cpu"))
    assert first == second, f"{number}: recorded twice, the rows differ"
    for name, rows in first.items():
        assert {row["clock"] for row in rows} == {"simulated"}, name
        path = write_recording(name, rows, command="test", device=where, folder=folder / "data")
        assert path.parent.name == "simulated" and read_recording(path)["device"] == "simulated GPU"
    report = draw_all(folder / "data", folder / "figures")
    drawn = {path.stem for path in (folder / "figures").iterdir()}
    assert drawn == {name for name in FIGURES if name.startswith(number)}, report
