"""What a step of the full engine costs the host, by the number of its rows and their context."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, GREY, ORANGE, new_chart

LOOKS = ((BLUE, "o-"), (ORANGE, "s--"))  # for the shorter and the longer context


@figure("host_cost")
def host_cost(recording: Recorded) -> Figure:
    """Growing in proportion to the rows is the best that a loop over rows can do; a fixed part is below it."""
    rows = recording["rows"]
    queued = "" if all(row["queued"] for row in rows) else ", without the queueing of device work"
    picture, axes = new_chart("What a decode step costs the host", recording["device"] + queued, height=4.6)
    contexts = sorted({row["context"] for row in rows})
    for number, (context, (colour, line)) in enumerate(zip(contexts, LOOKS, strict=True)):
        mine = [row for row in rows if row["context"] == context]
        counts, costs = [row["rows"] for row in mine], [row["host_ms"] for row in mine]
        axes.plot(counts, costs, line, color=colour, label=f"{context:,} tokens in each row")
        above = number > 0
        for count, cost in zip(counts, costs, strict=True):
            place = (0, 8 if above else -15)
            axes.annotate(f"{cost:.2f}", (count, cost), xytext=place, textcoords="offset points", ha="center")
        if not above:
            guide = [costs[-1] * count / counts[-1] for count in counts]
            axes.plot(counts, guide, ":", color=GREY, label="in proportion to the rows")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    every = [row["host_ms"] for row in rows]
    axes.set_ylim(min(every) / 2, max(every) * 2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("rows in the batch")
    axes.set_ylabel("host ms per step, waiting left out")
    axes.legend(frameon=False)
    return picture
