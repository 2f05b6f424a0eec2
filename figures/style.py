"""How the course's charts look: one axes, few lines, a title that names the device; colours of Okabe and Ito."""

from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes

from toolkit.timeline.picture import Picture
from toolkit.timeline.recording import WAIT, Recording

EDGE: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.6}  # of every bar: hatching needs a line around it
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#666666"


def new_chart(title: str, device: str, *, width: float = 8.0, height: float = 4.0) -> tuple[Picture, Axes]:
    """An empty chart whose title says what it shows and where that was measured."""
    picture = Picture(width=width, height=height)
    axes = picture.add_subplot()
    axes.set_title(f"{title}\n", loc="left", fontsize=12)
    axes.text(0, 1.02, device, transform=axes.transAxes, fontsize=9, color=GREY, va="bottom")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return picture, axes


def clock_note(recording: dict[str, Any]) -> str:
    """Where a recording was made, and that its clock is simulated where it is."""
    simulated = recording["rows"][0].get("clock") == "simulated"
    return recording["device"] + (", simulated clock" if simulated else "")


def model_of(recording: dict[str, Any], shape: str = "8B") -> str:
    """Which model chapters 3 and up record on a device, where a figure's recording does not say: see open_load."""
    return "times of an 8B model, declared" if recording["device"] == "simulated GPU" else f"{shape} shape"


def without_invisible_waits(recording: Recording, shown_ms: float) -> Recording:
    """The recording without the host's waits that a picture of so many milliseconds is too coarse to show.

    They would be a line's width in the picture, and a legend that says "wait" where none is seen.
    """
    shortest_s = shown_ms / 1e3 / 300
    spans = tuple(span for span in recording.spans if span.name != WAIT or span.end - span.start > shortest_s)
    return replace(recording, spans=spans)
