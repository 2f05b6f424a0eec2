"""Chapter 3's diagram: how bytes come from host memory to the device."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from figures import diagram
from figures.style import BLUE, ORANGE
from toolkit.timeline.picture import Picture


@diagram("ch03_memory")
def memory() -> Figure:
    """Pageable memory is copied by the host first, piece by piece; pinned memory the copy engine reads by itself."""
    picture = Picture(width=8, height=4.2)
    axes = picture.add_subplot()
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 56)
    axes.set_axis_off()
    axes.set_title("From pageable memory the host has to copy first; from pinned memory it need not", loc="left")
    _area(axes, (1, 3), (57, 45), "host memory", "#F4F4F4")
    _area(axes, (82, 3), (17, 45), "device memory", "#F4F4F4")
    _box(axes, (4, 30), (19, 11), "pageable tensor\n(may be moved)", "#FBE3B5")
    _box(axes, (37, 30), (19, 11), "staging area\n(the driver's,\npinned)", "#D9D9D9")
    _box(axes, (37, 8), (19, 11), "pinned tensor\n(stays in place)", "#BFDDF0")
    _box(axes, (64, 17), (13, 15), "copy engine\n(h2d)", "white")
    _box(axes, (84, 19), (13, 11), "tensor", "#BFE5DA")
    _arrow(axes, (23, 35.5), (37, 35.5), ORANGE)
    axes.text(30, 37, "1  the host\ncopies a piece", ha="center", va="bottom", fontsize=10)
    _arrow(axes, (56, 35.5), (64, 29), ORANGE)
    axes.text(59.5, 36, "2  the engine\nfetches the piece;\nthen 1 again", va="bottom", fontsize=10)
    _arrow(axes, (56, 13.5), (64, 20), BLUE)
    axes.text(59.5, 12.5, "the engine reads\nall by itself", va="top", fontsize=10)
    _arrow(axes, (77, 24.5), (84, 24.5), "black")
    axes.text(4, 28, "the host is busy until the last\npiece is in the staging area", va="top", fontsize=10)
    axes.text(4, 13.5, "the host queues the copy\nand goes on", va="center", fontsize=10)
    return picture


def _area(axes: Axes, corner: tuple[float, float], size: tuple[float, float], name: str, colour: str) -> None:
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0", facecolor=colour, edgecolor="#999999"))
    axes.text(corner[0] + 1, corner[1] + size[1] + 1, name, fontsize=11, va="bottom", style="italic")


def _box(axes: Axes, corner: tuple[float, float], size: tuple[float, float], text: str, colour: str) -> None:
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0", facecolor=colour, edgecolor="black"))
    axes.text(corner[0] + size[0] / 2, corner[1] + size[1] / 2, text, ha="center", va="center", fontsize=10)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2.5})
