"""Chapter 6's figures."""

from typing import Any

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, GREY, ORANGE, clock_note, new_chart
from toolkit.timeline import Recording, in_turns, plot_timeline, steady


def _steps(recording: Recorded, title: str) -> Figure:
    timeline = in_turns(steady(Recording.from_rows(recording["rows"], recording["device"])), 2)
    numbers = timeline.steps()
    first = numbers[len(numbers) // 2]
    return plot_timeline(timeline, title=title, steps=(first, first + 4))


@figure("ch06_steps")
def steps(recording: Recorded) -> Figure:
    """One launch a step: the host is done at once, and the device works without a gap."""
    return _steps(recording, "Two batches in flight, each forward one graph")


@figure("ch06_eager_steps")
def eager_steps(recording: Recorded) -> Figure:
    """The same engine, launching its forwards operation by operation: the host launches all the time."""
    return _steps(recording, "Two batches in flight, forwards launched operation by operation")


@figure("ch06_forward")
def forward(recording: Recorded) -> Figure:
    """What a decode forward costs the host and the device, launched one by one and as a graph, for each bucket."""
    rows = recording["rows"]
    picture, axes = new_chart("A decode forward, launched operation by operation and as a graph", clock_note(recording))
    buckets = sorted({row["rows"] for row in rows})
    looks = (
        ("operation by operation", "device_ms", ORANGE, "s-", "one by one: until the device is done"),
        ("operation by operation", "host_ms", ORANGE, "s:", "one by one: the host launches"),
        ("graph", "device_ms", BLUE, "o-", "graph: until the device is done"),
        ("graph", "host_ms", BLUE, "o:", "graph: the host launches"),
    )
    for name, key, colour, style, label in looks:
        values = [next(r[key] for r in rows if r["rows"] == bucket and r["forward"] == name) for bucket in buckets]
        face = "white" if key == "host_ms" else colour
        axes.plot(range(len(buckets)), values, style, color=colour, markersize=7, markerfacecolor=face, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(len(buckets)), [str(bucket) for bucket in buckets])
    axes.set_xlabel("rows of the bucket")
    axes.set_ylabel("milliseconds")
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return picture


@figure("ch06_memory")
def memory(recording: Recorded) -> Figure:
    """What the graphs for one and for two sets of IO buffers hold, by how they share their pools."""
    rows = recording["rows"]
    title = f"Memory of the graphs for up to {rows[0]['max_rows']} rows"
    note = recording["device"] + (", its allocator's count, tiny model" if rows[0]["clock"] == "simulated" else "")
    picture, axes = new_chart(title, note, height=4.4)
    names = list(dict.fromkeys(row["pools"] for row in rows))
    if rows[0]["in_use_mb"] is None:
        width, bars = (
            0.38,
            [(1, "reserved_mb", BLUE, "", "1 set of IO buffers"), (2, "reserved_mb", ORANGE, "//", "2 sets")],
        )
    else:
        width = 0.2
        bars = [
            (1, "reserved_mb", BLUE, "", "1 set of IO buffers, torch's count"),
            (2, "reserved_mb", ORANGE, "//", "2 sets, torch's count"),
            (1, "in_use_mb", GREY, "..", "1 set, all that the device has lost"),
            (2, "in_use_mb", GREEN, "xx", "2 sets, all that the device has lost"),
        ]
    for number, (sets, key, colour, hatch, label) in enumerate(bars):
        values: list[Any] = [next(r[key] for r in rows if r["pools"] == n and r["sets"] == sets) for n in names]
        places = [place + width * (number - (len(bars) - 1) / 2) for place in range(len(names))]
        drawn = axes.bar(places, values, width, color=colour, hatch=hatch, label=label, **EDGE)
        axes.bar_label(drawn, [f"{value:.0f}" for value in values], padding=2, fontsize=9)
    axes.margins(y=0.12)
    counts = {row["pools"]: row["graphs"] for row in rows if row["sets"] == 1}
    axes.set_xticks(range(len(names)), [f"{name}\n({counts[name]} graphs a set)" for name in names])
    axes.set_ylabel("MB")
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return picture
