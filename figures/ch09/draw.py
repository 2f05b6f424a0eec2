"""Chapter 9's figures: host and device by rows, and how long the GPU idles."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, ORANGE, clock_note, new_chart

HOSTS = {"chapter 8": (ORANGE, "o-"), "chapter 9": (BLUE, "s-")}


@figure("ch09_crossing")
def crossing(recording: Recorded) -> Figure:
    """Where the host's line lies above the device's, the device waits. Of the first model."""
    model = recording["rows"][0]["model"]
    rows = [row for row in recording["rows"] if row["model"] == model]
    title = f"A decode step's host and device time, {model}: where the lines cross, the device begins to wait"
    title = title.replace(", :", ":")
    picture, axes = new_chart(title, clock_note(recording), height=4.4)
    counts = sorted({row["rows"] for row in rows})
    lines = {"device": ([row["device_ms"] for row in rows if row["engine"] == "chapter 9"], GREEN, "^--")}
    for engine, (colour, line) in HOSTS.items():
        lines[f"host, {engine}"] = ([row["host_ms"] for row in rows if row["engine"] == engine], colour, line)
    for label, (times, colour, line) in lines.items():
        axes.plot(counts, times, line, color=colour, label=label)
        axes.annotate(f"{times[-1]:.2f}", (counts[-1], times[-1]), xytext=(8, -4), textcoords="offset points")
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("rows in the batch")
    axes.set_ylabel("milliseconds per step")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    axes.legend(frameon=False)
    return picture


@figure("ch09_idle", "ch09_crossing")
def idle(recording: Recorded) -> Figure:
    """The share of the time in which the device has nothing to do, and the tokens that this costs."""
    rows = recording["rows"]
    cases = list(dict.fromkeys((row["model"], row["rows"]) for row in rows))
    most = [f"{max(row['idle_share'] for row in rows if row['engine'] == engine):.1%}" for engine in HOSTS]
    title = f"Row by row the device idles for up to {most[0]} of the time, with arrays for {most[1]} at most"
    note = f"{clock_note(recording)}; over the bars: the share of the time in which the device idles"
    picture, axes = new_chart(title, note, width=9.5, height=4.2)
    for shift, (engine, (colour, _)) in zip((-0.2, 0.2), HOSTS.items(), strict=True):
        mine = [next(r for r in rows if (r["model"], r["rows"], r["engine"]) == (*case, engine)) for case in cases]
        bars = axes.bar(
            [place + shift for place in range(len(cases))],
            [row["tokens_per_s"] for row in mine],
            0.38,
            color=colour,
            hatch="//" if engine == "chapter 8" else "",
            label=engine,
            **EDGE,
        )
        axes.bar_label(bars, [f"{row['idle_share']:.1%}" for row in mine], padding=2, fontsize=8)
    axes.set_xticks(range(len(cases)), [f"{model}\n{n} rows".strip() for model, n in cases], fontsize=9)
    axes.margins(y=0.12)
    axes.set_ylabel("tokens per second")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
