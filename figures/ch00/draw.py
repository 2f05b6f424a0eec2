"""Chapter 0's figures."""

from statistics import median

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, ORANGE, new_chart
from toolkit.timeline import Recording, plot_timeline


def where(recording: Recorded) -> str:
    """The device in words. On a CPU (whose name ends in its cores) it was a thread that played the device."""
    device = recording["device"]
    return f"{device}, a thread plays the device" if device.endswith("cores") else device


@figure("ch00_two_clocks")
def two_clocks(recording: Recorded) -> Figure:
    """From a small product to a large one the launch takes a few times as long, the work hundreds of times."""
    rows = recording["rows"]
    work, launch = (rows[-1][key] / rows[0][key] for key in ("device_ms", "host_ms"))
    title = f"One matrix product on two clocks: {work:.0f} times the work, {launch:.1f} times the launch"
    picture, axes = new_chart(title, where(recording))
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
    rows = recording["rows"]
    calls, times = [row["call"] + 1 for row in rows], [row["ms"] for row in rows]
    title = f"The first call takes {times[0] / median(times[1:]):.0f} times as long as the later ones"
    picture, axes = new_chart(title, f"{where(recording)}, the same matrix product ten times, each from an idle device")
    axes.plot(calls[1:], times[1:], "o", color=BLUE, markersize=7, markeredgecolor="black")
    axes.plot(calls[:1], times[:1], "s", color=ORANGE, markersize=9, markeredgecolor="black")
    for call, ms in zip(calls, times, strict=True):
        axes.annotate(f"{ms:.2f}", (call, ms), (0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.2)
    axes.set_xticks(calls)
    axes.set_xlabel("call")
    axes.set_ylabel("milliseconds (each line ten times\nthe one below it)")
    return picture


@figure("ch00_steps")
def steps(recording: Recorded) -> Figure:
    """Host and device take turns."""
    timeline = Recording.from_rows(recording["rows"], where(recording))
    return plot_timeline(timeline, title="Host and device take turns", steps=(3, 5))
