"""What a step costs the host, by the number of its rows and their context: chapter 8's engine and chapter 9's."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, GREY, ORANGE, new_chart

LOOKS = {"chapter 8": ORANGE, "chapter 9": BLUE}
LINES = ("o-", "s--")  # for the shorter and the longer context


@figure("host_cost")
def host_cost(recording: Recorded) -> Figure:
    """One grows in proportion to the rows, which is the best that a loop over rows can do; the other hardly does."""
    rows = recording["rows"]
    queued = ", 135M shape" if all(row["queued"] for row in rows) else ", without the queueing of device work"
    most = max(row["rows"] for row in rows)
    costs = [next(r["host_ms"] for r in rows if (r["engine"], r["rows"]) == (engine, most)) for engine in LOOKS]
    title = f"Host work of a decode step with {most} rows: {costs[0]:.1f} ms row by row, {costs[1]:.1f} ms as arrays"
    picture, axes = new_chart(title, recording["device"] + queued, height=4.6)
    contexts = sorted({row["context"] for row in rows})
    for engine, colour in LOOKS.items():
        for context, line in zip(contexts, LINES, strict=True):
            mine = [row for row in rows if (row["engine"], row["context"]) == (engine, context)]
            counts, costs = [row["rows"] for row in mine], [row["host_ms"] for row in mine]
            axes.plot(counts, costs, line, color=colour, label=f"{engine}, {context:,} tokens in each row")
            axes.annotate(f"{costs[-1]:.2f}", (most, costs[-1]), xytext=(8, -4), textcoords="offset points")
            if (engine, context) == ("chapter 8", contexts[0]):
                guide = [costs[-1] * count / most for count in counts]
                axes.plot(counts, guide, ":", color=GREY, label="in proportion to the rows")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    every = [row["host_ms"] for row in rows]
    axes.set_ylim(min(every) / 2.5, max(every) * 2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.08)
    axes.set_xlabel("rows in the batch")
    axes.set_ylabel("host ms per step, waiting left out")
    axes.legend(frameon=False, fontsize=9)
    return picture
