"""What a step of the full engine costs the host, by the number of its rows."""

from matplotlib.figure import Figure

from toolkit.figures import Recorded, figure
from toolkit.figures.style import BLUE, GREY, ORANGE, new_chart

LOOKS = {16: (BLUE, "o-"), 64: (ORANGE, "s--")}
TARGET_MS, TARGET_ROWS = 0.5, 32


@figure("host_cost")
def host_cost(recording: Recorded) -> Figure:
    """Growing in proportion to the rows is the best that a loop over rows can do; a fixed part is below it."""
    rows = recording["rows"]
    queued = "" if all(row["queued"] for row in rows) else ", without the queueing of device work"
    picture, axes = new_chart("What a decode step costs the host", recording["device"] + queued, height=4.6)
    for block_size, (colour, line) in LOOKS.items():
        mine = [row for row in rows if row["block_size"] == block_size]
        counts, costs = [row["rows"] for row in mine], [row["host_ms"] for row in mine]
        axes.plot(counts, costs, line, color=colour, label=f"blocks of {block_size} tokens")
        if block_size == min(LOOKS):
            for count, cost in zip(counts, costs, strict=True):
                axes.annotate(f"{cost:.2f}", (count, cost), xytext=(0, -15), textcoords="offset points", ha="center")
            guide = [costs[-1] * count / counts[-1] for count in counts]
            axes.plot(counts, guide, ":", color=GREY, label="in proportion to the rows")
    axes.plot([TARGET_ROWS], [TARGET_MS], "x", color="black", markersize=9, label="aim")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.margins(y=0.15)
    axes.set_xlabel("rows in the batch")
    axes.set_ylabel("host ms per step, waiting left out")
    axes.legend(frameon=False)
    return picture
