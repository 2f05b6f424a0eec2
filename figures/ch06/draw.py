"""Chapter 6's figures."""

from typing import Any

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.compared import compared_steps
from figures.style import BLUE, EDGE, ORANGE, clock_note, model_of, new_chart


@figure("ch06_steps")
def steps(recording: Recorded) -> Figure:
    """One launch a step: the host is done at once, and the device works without a gap."""
    return compared_steps(recording, "Each forward one graph: one launch, and the host is free", sets=2)


@figure("ch06_eager_steps")
def eager_steps(recording: Recorded) -> Figure:
    """The same engine, launching its forwards operation by operation: the host launches all the time."""
    return compared_steps(recording, "Launched operation by operation: the host is never free", sets=2)


@figure("ch06_forward")
def forward(recording: Recorded) -> Figure:
    """What a decode forward costs the host and the device, launched one by one and as a graph, for each bucket."""
    rows = recording["rows"]
    graph, single = (
        sorted(r["device_ms"] for r in rows if (r["forward"] == "graph") is each) for each in (True, False)
    )
    title = f"A decode forward: {_span(single)} ms launched one by one, {_span(graph)} ms as a graph"
    picture, axes = new_chart(title, f"{clock_note(recording)}, {model_of(recording)}")
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


def _span(values: list[float]) -> str:
    """The least and the most of these rising numbers, once if they look the same."""
    return " to ".join(dict.fromkeys(f"{value:.0f}" for value in (values[0], values[-1])))


@figure("ch06_memory")
def memory(recording: Recorded) -> Figure:
    """What the graphs for one and for two sets of IO buffers hold, by how they share their pools."""
    rows = recording["rows"]
    model = "tiny model" if rows[0]["clock"] == "simulated" else "8B shape"
    note = f"{recording['device']}, {model}, graphs for up to {rows[0]['max_rows']} rows, the allocator's count"
    picture, axes = new_chart("With one pool, the graphs of a second set need no more memory", note, height=4.2)
    names = list(dict.fromkeys(row["pools"] for row in rows))
    for sets, colour, hatch, shift in ((1, BLUE, "", -0.2), (2, ORANGE, "//", 0.2)):
        values: list[Any] = [
            next(row["reserved_mb"] for row in rows if row["pools"] == name and row["sets"] == sets) for name in names
        ]
        places = [place + shift for place in range(len(names))]
        label = f"{sets} set{'s' * (sets > 1)} of IO buffers"
        drawn = axes.bar(places, values, 0.38, color=colour, hatch=hatch, label=label, **EDGE)
        axes.bar_label(drawn, [f"{value:.0f}" for value in values], padding=2, fontsize=9)
    axes.margins(y=0.12)
    counts = {row["pools"]: row["graphs"] for row in rows if row["sets"] == 1}
    axes.set_xticks(range(len(names)), [f"{name}\n({counts[name]} graphs a set)" for name in names])
    axes.set_ylabel("MB")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
