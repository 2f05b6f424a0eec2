"""Steps of the engines of chapters 4 to 7, drawn on one time axis: these pictures are compared with each other."""

from matplotlib.figure import Figure

from figures import Recorded
from toolkit.timeline import Recording, plot_timeline, steady

COMPARED_MS = 45.0  # four to five decode steps of the 8B shape as one graph; one step launched kernel by kernel


def compared_steps(recording: Recorded, title: str) -> Figure:
    """The steps from the middle of a recording that begin within COMPARED_MS, on an axis of that length."""
    timeline = steady(Recording.from_rows(recording["rows"], recording["device"]))
    numbers = timeline.steps()
    later = numbers[max(0, len(numbers) // 2 - 2) :]
    begins = {step: timeline.step_window(step, step)[0] for step in later}
    last = max(step for step in later if begins[step] < begins[later[0]] + COMPARED_MS / 1e3)
    if timeline.clock != "simulated":  # there a tiny model computes, and the times are declared
        title += "  ·  8B shape"  # what open_load of accelerated.py loads if nothing else is asked for
    return plot_timeline(timeline, title=title, steps=(later[0], last), length_ms=COMPARED_MS)
