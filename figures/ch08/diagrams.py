"""Chapter 8's diagram: the states of a request."""

from matplotlib.figure import Figure

from figures import diagram
from figures.style import BLUE, GREY
from toolkit.timeline.picture import Picture


@diagram("ch08_states")
def states() -> Figure:
    """A request's three states, and what a row in flight has to do with them."""
    picture = Picture(width=9.0, height=3.5)
    axes = picture.add_subplot()
    axes.set_title("Whatever happens to a request, its row in flight is left alone", loc="left", fontsize=12)
    boxes = {
        "waiting": (0.12, "waiting\nno blocks"),
        "running": (0.5, "running\nblocks, and often\na row in flight"),
        "ended": (0.88, "ended\none last output"),
    }
    for place, text in boxes.values():
        look = {"boxstyle": "round,pad=0.6", "facecolor": "white", "edgecolor": BLUE, "linewidth": 1.6}
        axes.text(place, 0.55, text, ha="center", va="center", fontsize=11, bbox=look)
    arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2}
    for left, right, height, text in (
        (0.2, 0.39, 0.62, "admitted:\ntakes blocks"),
        (0.39, 0.2, 0.48, "preempted, or a step failed:\nepoch + 1, blocks back"),
        (0.61, 0.78, 0.62, "length, EOS, stop string,\ncancelled, error:\nepoch + 1, blocks back"),
    ):
        axes.annotate("", (right, height), (left, height), arrowprops=arrow)
        side, alignment = (0.04, "bottom") if right > left else (-0.04, "top")
        axes.text((left + right) / 2, height + side, text, ha="center", va=alignment, fontsize=9)
    axes.annotate("", (0.88, 0.42), (0.12, 0.1), arrowprops=arrow | {"connectionstyle": "angle,angleA=0,angleB=90"})
    axes.plot([0.12, 0.12], [0.1, 0.42], color="black", linewidth=1.2)
    axes.text(0.5, 0.12, "cancelled, error", ha="center", va="bottom", fontsize=9)
    note = "At commit, a row whose epoch is not its request's any more is dropped: its token counts for nothing."
    axes.text(0.5, -0.02, note, ha="center", fontsize=9, color=GREY)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.08, 0.98)
    axes.axis("off")
    return picture
