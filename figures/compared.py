"""Steps of the engines of chapters 4 to 7, drawn on one time axis: these pictures are compared with each other."""

from matplotlib.figure import Figure

from figures import Recorded
from figures.style import model_of, without_invisible_waits
from toolkit.timeline import Recording, in_turns, plot_timeline, steady

COMPARED_MS = 45.0  # four to five decode steps of the 8B shape as one graph; one step launched kernel by kernel


def compared_steps(recording: Recorded, title: str, sets: int = 1) -> Figure:
    """The steps from the middle of a recording that begin within COMPARED_MS, on an axis of that length.

    Args:
        sets: how many sets of IO buffers the engine takes in turns; two or more are told apart by colour.
    """
    timeline = steady(Recording.from_rows(recording["rows"], recording["device"]))
    numbers = timeline.steps()
    later = numbers[max(0, len(numbers) // 2 - 2) :]
    begins = {step: timeline.step_window(step, step)[0] for step in later}
    last = max(step for step in later if begins[step] < begins[later[0]] + COMPARED_MS / 1e3)
    shown = without_invisible_waits(timeline if sets == 1 else in_turns(timeline, sets), COMPARED_MS)
    title += f"  ·  {model_of(recording)}"
    return plot_timeline(shown, title=title, steps=(later[0], last), length_ms=COMPARED_MS)
