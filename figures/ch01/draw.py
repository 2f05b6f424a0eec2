"""Chapter 1's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, ORANGE, new_chart
from toolkit.timeline import Recording, plot_timeline

# (key of the recording, colour, hatch, label), from left to right
PARTS = (
    ("padding", "#DDDDDD", "////", "padding"),
    ("prompt", BLUE, "", "prompt"),
    ("wanted", GREEN, "..", "new tokens that were wanted"),
    ("thrown_away", ORANGE, "xx", "computed after the row was done"),
)


@figure("ch01_batch")
def batch(recording: Recorded) -> Figure:
    """Every position that one static batch computes, and which of them anybody needed."""
    rows = recording["rows"]
    total = sum(row[key] for row in rows for key, *_ in PARTS)
    wasted = sum(row["padding"] + row["thrown_away"] for row in rows)
    title = f"One static batch: {wasted} of {total} computed positions were needed by no request"
    picture, axes = new_chart(title, "from the lengths alone, on any device", height=3.6)
    left = [0] * len(rows)
    for key, colour, hatch, label in PARTS:
        widths = [row[key] for row in rows]
        axes.barh(range(len(rows)), widths, 0.75, left, color=colour, hatch=hatch, label=label, **EDGE)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    longest = rows[0]["padding"] + rows[0]["prompt"]
    axes.axvline(longest, color="black", linewidth=2)
    for place, text, side in (
        (longest, "prefill: one forward ", "right"),
        (longest, " decode: one forward per column", "left"),
    ):
        axes.text(place, len(rows) - 0.45, text, ha=side, va="top", fontsize=9)
    axes.set_ylim(len(rows) + 0.2, -0.6)
    axes.set_xlim(0, max(left) * 1.02)
    axes.set_yticks(range(len(rows)), [f"row {row['row']}" for row in rows])
    axes.grid(visible=False)
    axes.set_xlabel("position")
    picture.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return picture


@figure("ch01_batch_sizes")
def batch_sizes(recording: Recorded) -> Figure:
    """A larger batch is faster, although it wastes more."""
    rows = recording["rows"]
    title = f"{rows[0]['requests']} requests in static batches of different sizes"
    picture, axes = new_chart(title, recording["device"])
    places = range(len(rows))
    bars = axes.bar(places, [row["tokens_per_s"] for row in rows], 0.6, color=BLUE, **EDGE)
    labels = [f"{row['tokens_per_s']:.0f} tokens/s\n{row['padding_share']:.0%} wasted" for row in rows]
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.margins(y=0.2)
    axes.set_xticks(places, [f"{row['batch_size']}\n{row['steps']} forwards" for row in rows])
    axes.set_xlabel("rows of a batch")
    axes.set_ylabel("wanted tokens per second")
    return picture


@figure("ch01_steps")
def steps(recording: Recorded) -> Figure:
    """Prefill and decode: host and device take turns."""
    timeline = Recording.from_rows(recording["rows"], recording["device"])
    return plot_timeline(timeline, title="The naive loop", steps=(0, 4))
