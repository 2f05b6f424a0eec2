"""Chapter 0's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREY, ORANGE, new_chart
from toolkit.timeline import Recording, plot_timeline


def where(recording: Recorded) -> str:
    """The device in words. On a CPU (whose name ends in its cores) it was a thread that played the device."""
    device = recording["device"]
    return f"{device}, a thread plays the device" if device.endswith("cores") else device


@figure("ch00_two_clocks")
def two_clocks(recording: Recorded) -> Figure:
    """The launch takes about as long for a small product as for a large one; the work does not."""
    picture, axes = new_chart("One matrix product, two clocks", where(recording))
    rows = recording["rows"]
    places = range(len(rows))
    for key, colour, style, label_at in (("device_ms", BLUE, "o-", 9), ("host_ms", ORANGE, "s--", -16)):
        values = [row[key] for row in rows]
        axes.plot(places, values, style, color=colour, markersize=7, linewidth=2, markeredgecolor="black")
        for place, value in zip(places, values, strict=True):
            text, at = f"{value:.2g} ms", (0, label_at)
            axes.annotate(text, (place, value), at, textcoords="offset points", ha="center", fontsize=9)
    middle = len(rows) // 2 - 0.5
    between = [(rows[int(middle)][key] * rows[int(middle) + 1][key]) ** 0.5 for key in ("device_ms", "host_ms")]
    axes.annotate(
        "the device works\n(timing events)", (middle, between[0]), (-16, 12), textcoords="offset points", ha="right"
    )
    axes.annotate("the launch\n(host's clock)", (middle, between[1]), (0, 8), textcoords="offset points", ha="center")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.08, y=0.2)
    axes.set_xticks(places, [f"{row['size']} × {row['size']}" for row in rows])
    axes.set_ylabel("milliseconds")
    return picture


@figure("ch00_first_calls")
def first_calls(recording: Recorded) -> Figure:
    """The first call of a kernel is not like the others."""
    picture, axes = new_chart("The same product ten times, from a cold start", where(recording), height=3.4)
    rows = recording["rows"]
    bars = axes.bar(
        [row["call"] + 1 for row in rows],
        [row["ms"] for row in rows],
        color=[ORANGE if row["call"] == 0 else GREY for row in rows],
        **EDGE,
    )
    axes.bar_label(bars, [f"{row['ms']:.3g}" for row in rows], padding=2, fontsize=9)
    axes.set_xticks([row["call"] + 1 for row in rows])
    axes.margins(y=0.12)
    axes.set_xlabel("call")
    axes.set_ylabel("milliseconds")
    return picture


@figure("ch00_steps")
def steps(recording: Recorded) -> Figure:
    """Host and device take turns."""
    timeline = Recording.from_rows(recording["rows"], where(recording))
    return plot_timeline(timeline, title="Steps of a synchronous loop", steps=(3, 5))
