"""Chapter 7's diagrams: a sampled id's two ways, and the carry map that the lesson draws from the learner's own."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures import diagram
from figures.style import EDGE, ORANGE
from toolkit.timeline.picture import Picture

ARROW = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.1}
PERIOD, WIDTH = 3.7, 3.4  # from one forward to the next, and how long one is, in units of the picture
# For each batch: name, id of its input, id that it samples, and the row of the batch before that sampled the input.
BATCHES = (
    (("P", 12, 70, None), ("A", 40, 71, None), ("B", 9, 72, None)),
    (("A", 71, 15, 1), ("B", 72, 21, 2), ("P", 70, 80, 0)),
    (("B", 21, 33, 1), ("P", 80, 44, 2), ("R", 55, 18, None)),
)
AFTER = ("N", "N + 1", "N + 2", "N + 3")


@diagram("ch07_carry")
def two_ways() -> Figure:
    """Three forwards, each with its rows in another order: a sampled id is an input of the next one."""
    picture = Picture(width=8.6, height=4.6)
    axes = picture.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-1.35, 3 * PERIOD + 0.15)
    axes.set_ylim(-2.0, 4.5)
    title = "A sampled id goes straight into the next forward; the host sees it one batch later"
    axes.set_title(title, loc="left", fontsize=11)
    for y, lane in ((2.0, "compute"), (0.05, "copies out\n(d2h)"), (-1.5, "host")):
        axes.text(-0.2, y, lane, ha="right", va="center", fontsize=9)
    for number, rows in enumerate(BATCHES):
        left = number * PERIOD
        _box(axes, (left, 0.55, WIDTH, 3.6), "", "white")
        heading = f"forward {AFTER[number]}, buffers {number % 2}"
        axes.text(left + WIDTH / 2, 3.85, heading, ha="center", va="center", fontsize=9)
        for line, (name, token, sampled, source) in enumerate(rows):
            y = 2.95 - 0.95 * line
            _box(axes, (left + 0.15, y - 0.3, 0.8, 0.6), str(token), "white" if source is None else ORANGE)
            axes.text(left + WIDTH / 2, y, f"row of {name}", ha="center", va="center", fontsize=9)
            _box(axes, (left + WIDTH - 0.95, y - 0.3, 0.8, 0.6), str(sampled), "white")
            if source is not None:
                start = (left - PERIOD + WIDTH - 0.15, 2.95 - 0.95 * source)
                axes.annotate("", xy=(left + 0.15, y), xytext=start, arrowprops=ARROW)
        end = left + WIDTH
        _box(axes, (end + 0.05, -0.2, 0.3, 0.5), "", "white", "xx")
        _host(axes, left, number)
        if number < len(BATCHES) - 1:
            later = {**ARROW, "linestyle": "--"}
            axes.annotate("", xy=(end + 0.85, -1.13), xytext=(end + 0.25, -0.25), arrowprops=later)
    return picture


def _host(axes: Axes, left: float, number: int) -> None:
    """What the host does under forward `number`."""
    committed = AFTER[number - 1] if number else "N - 1"
    _box(axes, (left + 0.3, -1.85, 1.3, 0.7), f"commit\n{committed}", "white")
    _box(axes, (left + 1.65, -1.85, 1.5, 0.7), f"prepare\n{AFTER[number + 1]}", "white")


def _box(axes: Axes, place: tuple[float, float, float, float], text: str, colour: str, hatch: str = "") -> None:
    """A labelled rectangle at (left, bottom, width, height)."""
    left, bottom, width, height = place
    axes.add_patch(Rectangle((left, bottom), width, height, facecolor=colour, hatch=hatch, **EDGE))
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=9)


def carry_map(sampled: Sequence[str], tokens: Sequence[str], index: Sequence[int]) -> Figure:
    """Two rows of boxes, and an arrow from each sampled id to the token that it replaces.

    Args:
        sampled: what to write on the sampled ids of the batch before, in their order.
        tokens: what to write on the packed tokens of the new batch.
        index: its carry index; one for each token, negative where the token is kept.
    """
    handed = [f"{token} takes id {source}" for token, source in zip(tokens, index, strict=False) if source >= 0]
    shows = f"Of the packed tokens of N + 1, {', '.join(handed) or 'none takes an id'} among the sampled ids of N"
    picture = Picture(width=8, height=2.6, shows=shows)
    axes = picture.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-3.2, max(len(sampled), len(tokens)))
    axes.set_ylim(-0.75, 2.55)
    for height, note, labels in ((2, "sampled ids of N", sampled), (0, "packed tokens of N + 1", tokens)):
        axes.text(-0.25, height, note, ha="right", va="center", fontsize=9)
        for place, label in enumerate(labels):
            carried = height == 0 and place < len(index) and index[place] >= 0
            box = Rectangle((place + 0.06, height - 0.3), 0.88, 0.6, edgecolor="black", linewidth=0.8)
            box.set(facecolor=ORANGE if carried else "white", hatch="//" if carried else None)
            axes.add_patch(box)
            ground = {"facecolor": ORANGE, "edgecolor": "none", "pad": 1.0} if carried else None
            axes.text(place + 0.5, height, label, ha="center", va="center", fontsize=9, bbox=ground)
    for place in range(len(sampled)):
        axes.text(place + 0.5, 2.42, str(place), ha="center", va="bottom", fontsize=8)
    axes.text(-0.25, -0.55, "carry index", ha="right", va="center", fontsize=9)
    for place, source in enumerate(index):
        axes.text(place + 0.5, -0.55, str(source), ha="center", va="center", fontsize=9)
        if source >= 0:
            axes.annotate("", xy=(place + 0.5, 0.32), xytext=(source + 0.5, 1.68), arrowprops=ARROW)
    return picture
