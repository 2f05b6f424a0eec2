"""Chapter 4's diagram: how the race detector knows what is ordered before what."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from figures import diagram
from toolkit.timeline.picture import Picture

WIDTH, HEIGHT = 19, 9  # of an operation
LANES = {"h2d": 46, "compute": 28, "d2h": 10}  # the height of each stream's row
GREEN, RED = "#006B4F", "#B00000"


@diagram("ch04_vector_clocks")
def vector_clocks() -> Figure:
    """Three operations, one event: the forward knows of the copy in, the copy out does not know of the forward."""
    picture = Picture(width=8, height=4.6)
    axes = picture.add_subplot()
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 60)
    axes.set_axis_off()
    axes.set_title("An operation comes after another one if its stream's clock has heard of it", loc="left")
    for lane, height in LANES.items():
        axes.plot([9, 99], [height, height], color="#BBBBBB", linewidth=1, zorder=0)
        axes.text(8, height, lane, ha="right", va="center", fontsize=11)
    _operation(axes, 11, "h2d", "copy in\nwrites inputs", (1, 0, 0))
    _operation(axes, 45, "compute", "forward\nreads inputs,\nwrites ids", (1, 1, 0))
    _operation(axes, 75, "d2h", "copy out\nreads ids", (0, 0, 1))
    axes.annotate(
        "",
        (45, 29),
        (30, 45),
        arrowprops={"arrowstyle": "-|>", "color": GREEN, "linewidth": 2.5},
        annotation_clip=False,
    )
    axes.text(
        41, 42, "h2d_done: record takes h2d's clock along,\nwait_event hands it to compute", color=GREEN, va="center"
    )
    axes.plot([64, 75], [25, 12], color=RED, linewidth=2.5, linestyle="--")
    axes.text(
        12,
        18.5,
        "nothing carries compute's clock\nto d2h: its entry for compute is 0,\nthe forward's number is 1: a race",
        color=RED,
        va="center",
    )
    axes.text(
        9, 1, "(h2d, compute, d2h): how many operations of each come before what this stream does next", fontsize=9
    )
    return picture


def _operation(axes: Axes, left: float, lane: str, text: str, clock: tuple[int, int, int]) -> None:
    bottom = LANES[lane] - HEIGHT / 2
    box = FancyBboxPatch((left, bottom), WIDTH, HEIGHT, boxstyle="round,pad=0", facecolor="white", edgecolor="black")
    axes.add_patch(box)
    axes.text(left + WIDTH / 2, LANES[lane], text, ha="center", va="center", fontsize=9)
    axes.text(left + WIDTH + 1, LANES[lane] + 2.2, str(clock), fontsize=11, fontweight="bold", va="bottom")
