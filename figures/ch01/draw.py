"""Chapter 1's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, ORANGE, new_chart
from figures.turn import steps_and_turn
from toolkit.timeline import Recording

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
    return steps_and_turn(timeline, "The naive loop", steps=(0, 4), after=2)


@figure("ch01_rows", "ch06_forward", "roofline_step")
def rows_of_a_forward(forward: Recorded, roofline: Recorded) -> Figure:
    """Thirty-two rows in one forward cost hardly more than one, once launching is out of the way."""
    numbers = sorted({row["rows"] for row in forward["rows"]})
    times = {
        form: [
            next(r["device_ms"] for r in forward["rows"] if r["forward"] == form and r["rows"] == n) for n in numbers
        ]
        for form in ("operation by operation", "graph")
    }
    more = times["graph"][-1] / times["graph"][0] - 1
    title = f"{numbers[-1]} rows take {100 * more:.0f} % longer than {numbers[0]}, where launches do not count"
    picture, axes = new_chart(
        title, f"{forward['device']}, a decode forward of the 8b shape with short texts", height=4.4
    )
    floor = min(row["floor_ms"] for row in roofline["rows"])
    looks = (
        ("operation by operation", ORANGE, "s--", "launched one by one: the host sets the time"),
        ("graph", BLUE, "o-", "launched as one graph: the device sets the time"),
    )
    for form, colour, style, label in looks:
        axes.plot(numbers, times[form], style, color=colour, markersize=8, markeredgecolor="black", label=label)
        for n, ms in zip(numbers, times[form], strict=True):
            axes.annotate(f"{ms:.1f}", (n, ms), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.axhline(floor, color="black", linestyle=":", label=f"reading weights and KV cache once: {floor:.1f} ms")
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [str(n) for n in numbers])
    axes.set_ylim(0, 1.15 * max(max(each) for each in times.values()))
    axes.set_xlabel("rows of the forward, one token each")
    axes.set_ylabel("milliseconds")
    picture.legend(loc="outside lower center", ncols=1, frameon=False)
    return picture
