"""The simulator's diagram: what happens to an operation of a program that says "cuda"."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from figures import diagram
from figures.style import BLUE, ORANGE
from toolkit.timeline.picture import Picture

Point = tuple[float, float]


@diagram("simgpu_parts")
def parts() -> Figure:
    """One operation goes three ways: into a queue, to the race detector, and onto the virtual clock."""
    picture = Picture(width=9, height=4.3)
    axes = picture.add_subplot()
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 56)
    axes.set_axis_off()
    axes.set_title("Each operation is queued, compared with those before it, and given a time", loc="left")
    _box(axes, (1, 17), (21, 24), "a program for\ntorch.cuda,\nunchanged\n\ny = x * 2", "#F4F4F4")
    _box(axes, (30, 17), (19, 24), 'the device "sim"\n\nwhich bytes,\nwhich stream,\nwhich line', "white")
    _box(axes, (58, 39), (19, 12), "a queue for\neach stream", "#BFDDF0")
    _box(axes, (58, 22), (19, 12), "race detector:\nvector clocks", "#FBE3B5")
    _box(axes, (58, 5), (19, 12), "virtual clock:\na table of prices", "#BFE5DA")
    _arrow(axes, (22, 29), (30, 29), "black")
    for height in (45, 28, 11):
        _arrow(axes, (49, 29), (58, height), "black")
    _arrow(axes, (77, 45), (82, 45), BLUE)
    _arrow(axes, (77, 28), (82, 28), ORANGE)
    _arrow(axes, (77, 11), (82, 11), "black")
    for height, text in (
        (45, "runs on the CPU,\nwhen the policy\nsays so"),
        (28, "two lines, and\nthe missing edge"),
        (11, "what overlaps\nwith what:\nthe timeline"),
    ):
        axes.text(83, height, text, va="center", fontsize=10)
    return picture


def _box(axes: Axes, corner: Point, size: Point, text: str, colour: str) -> None:
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0", facecolor=colour, edgecolor="black"))
    axes.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center", fontsize=10)


def _arrow(axes: Axes, start: Point, end: Point, colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
