"""Some steps of a synchronous loop, and below them, enlarged, the host's turn between two forwards.

In the steps of a large model that turn is a line as thin as a hair. What host and device do in it is chapters 1 and 2's
subject, so it has a time axis of its own.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from figures.style import GREY
from toolkit.timeline import Recording, Span
from toolkit.timeline.bars import legend_patch
from toolkit.timeline.intervals import Interval
from toolkit.timeline.looks import DARK, EDGE_COLOUR, Looks
from toolkit.timeline.picture import Picture

LANES = {"host": "host", "h2d": "copies in", "compute": "compute"}
BAR = 0.62
SHORTEST_LABELLED = 0.07  # of the axis: a bar that is shorter has no room for its name


def steps_and_turn(recording: Recording, title: str, steps: tuple[int, int], after: int) -> Picture:
    """Draw the steps `steps` (first and last), and enlarged what lies between forward `after` and the next one."""
    shown = recording.step_window(*steps)
    forwards = {span.step: span for span in recording.spans if span.lane == "compute"}
    gap = forwards[after].end, forwards[after + 1].start
    margin = (gap[1] - gap[0]) / 4
    turn = gap[0] - margin, gap[1] + margin
    picture = Picture(width=9, height=5.4)
    upper, lower = picture.subplots(2, 1)
    looks = Looks(recording.spans)
    for axes, window in ((upper, shown), (lower, turn)):
        _draw(axes, recording.spans, window, looks)
    milliseconds = (gap[1] - gap[0]) * 1e3
    upper.set_ylim(len(LANES) - 0.5, -1.1)
    upper.set_title(f"{title}: {milliseconds:.2f} ms idle between two forwards\n", loc="left", fontsize=12)
    upper.text(0, 1.03, recording.device, transform=upper.transAxes, fontsize=9, color=GREY, va="bottom")
    upper.set_xlabel(f"milliseconds, steps {steps[0]} to {steps[1]}")
    lower.set_xlabel(f"milliseconds, enlarged: between forward {after} and forward {after + 1}")
    middle = (sum(gap) / 2 - shown[0]) * 1e3
    upper.annotate(
        "enlarged below", (middle, -0.3), (middle, -0.8), ha="center", fontsize=9, arrowprops={"arrowstyle": "->"}
    )
    handles = [legend_patch(*entry) for entry in looks.legend(s for s in recording.spans if _part(s, turn)).items()]
    picture.legend(
        handles=handles,
        ncols=len(handles),
        loc="outside lower left",
        frameon=False,
        fontsize=9,
    )
    return picture


def _part(span: Span, window: Interval) -> float:
    """How much of a window a span covers, 0 to 1."""
    return max(0.0, min(span.end, window[1]) - max(span.start, window[0])) / (window[1] - window[0])


def _draw(axes: Axes, spans: Sequence[Span], window: Interval, looks: Looks) -> None:
    """A row of bars for each lane, from the window's start on."""
    axes.set_xlim(0, (window[1] - window[0]) * 1e3)
    axes.set_ylim(len(LANES) - 0.5, -0.5)
    axes.set_yticks(range(len(LANES)), list(LANES.values()))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for span in spans:
        part = _part(span, window)
        if part == 0:
            continue
        colour, hatch = looks.of(span)
        start, end = ((max(min(t, window[1]), window[0]) - window[0]) * 1e3 for t in (span.start, span.end))
        row = list(LANES).index(span.lane)
        thin = part < 0.01  # then its colour is all that can be seen of it
        axes.add_patch(
            Rectangle(
                (start, row - BAR / 2),
                end - start,
                BAR,
                facecolor=colour,
                hatch="" if thin else hatch,
                edgecolor=colour if thin else EDGE_COLOUR,
                linewidth=0.6,
            )
        )
        if part > SHORTEST_LABELLED:
            ground = {"facecolor": colour, "edgecolor": "none", "pad": 1.0} if hatch else None
            ink = "white" if colour in DARK else "black"
            text = f"{span.name} {span.step}"
            axes.text((start + end) / 2, row, text, ha="center", va="center", fontsize=9, color=ink, bbox=ground)
