"""Chapter 0's diagram: two clocks, and the event that ties one to the other."""

from matplotlib.figure import Figure

from figures import diagram
from figures.style import BLUE, ORANGE
from toolkit.timeline.picture import Picture


@diagram("ch00_anchor")
def anchor() -> Figure:
    """Two clocks without a common zero, and the one event that ties them together."""
    picture = Picture(width=8.0, height=3.6)
    axes = picture.add_subplot()
    axes.set_title("One anchor ties the device's clock to the host's", loc="left", fontsize=12)
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    axes.set_ylim(-0.6, 3.0)
    host, device = 2.0, 0.6
    for level, label in ((host, "host"), (device, "device")):
        axes.annotate("", (10, level), (1.0, level), arrowprops={"arrowstyle": "->", "linewidth": 1.4})
        axes.text(0.9, level, label, ha="right", va="center", fontsize=11)
    axes.axvspan(1.7, 3.7, color="#E8E8E8", ymin=0.22, ymax=0.95)
    for x, label in ((1.7, "before"), (2.7, "anchor_s"), (3.7, "after")):
        half = x == 2.7
        axes.plot([x, x], [host - 0.12, host + 0.12], color=ORANGE if half else "black", linewidth=3 if half else 2)
        axes.text(x, host + 0.2, label, ha="center", fontsize=10, family="monospace")
    axes.text(2.7, host + 0.58, "two readings of the host's clock, and their middle", ha="center", fontsize=9)
    for x, label in ((3.1, "anchor"), (6.2, "start"), (8.9, "end")):
        axes.plot([x], [device], "D", color=BLUE, markersize=9, markeredgecolor="black")
        axes.text(x, device + 0.2, label, ha="center", fontsize=10, family="monospace")
    for left, right, label in ((3.1, 6.2, "elapsed_time(start)"), (6.2, 8.9, "elapsed_time(end)")):
        arrow = {"arrowstyle": "<->", "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (right, device - 0.35), (left, device - 0.35), arrowprops=arrow)
        owner = "anchor" if left == 3.1 else "start"
        axes.text((left + right) / 2, device - 0.62, f"{owner}.{label}", ha="center", fontsize=9, family="monospace")
    axes.text(6.0, -0.45, "events know differences only, in milliseconds", ha="center", fontsize=9)
    axes.annotate(
        "the device gets to the anchor somewhere in here:\nthe middle is wrong by half the width at most",
        (3.5, 1.35),
        (4.3, 1.35),
        va="center",
        fontsize=9,
        arrowprops={"arrowstyle": "->", "linewidth": 1.0},
    )
    return picture
