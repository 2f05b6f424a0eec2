"""Chapter 10's figures: what HTTP costs the engine, and how full its steps are offline."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, GREY, ORANGE, new_chart
from toolkit.timeline.picture import Picture

WAYS = {"in process": (BLUE, ""), "HTTP, answers as a whole": (GREEN, ".."), "HTTP, streams": (ORANGE, "//")}


@figure("ch10_http")
def http(recording: Recorded) -> Figure:
    """The same requests by three ways; over the bars the share of the speed in process."""
    rows = recording["rows"]
    models = list(dict.fromkeys(row["model"] for row in rows))
    device = recording["device"] + (", the GPU simulated by the same cores" if rows[0]["simulated"] else "")
    alone = {row["model"]: row["steady_tokens_per_s"] for row in rows if row["way"] == "in process"}
    left = min(row["steady_tokens_per_s"] / alone[row["model"]] for row in rows)
    title = f"{rows[0]['calls']} requests at a time over HTTP: at least {left:.0%} of the engine's speed is left"
    picture, axes = new_chart(title, device, width=8.5, height=4.2)
    for shift, (way, (colour, hatch)) in zip((-0.27, 0.0, 0.27), WAYS.items(), strict=True):
        mine = [next(row for row in rows if (row["model"], row["way"]) == (model, way)) for model in models]
        base = [alone[model] for model in models]
        speeds = [row["steady_tokens_per_s"] for row in mine]
        places = [place + shift for place in range(len(models))]
        bars = axes.bar(places, speeds, 0.25, color=colour, hatch=hatch, label=way, **EDGE)
        shares = [f"{speed:,.0f}\n{speed / whole:.0%}" for speed, whole in zip(speeds, base, strict=True)]
        axes.bar_label(bars, shares, padding=2, fontsize=9)
    axes.set_xticks(range(len(models)), [f"model {model}" for model in models])
    axes.set_xlim(-0.7, len(models) - 0.3)
    axes.margins(y=0.18)
    axes.set_ylabel("tokens per second while all run")
    picture.legend(loc="outside lower center", ncols=3, frameon=False)
    return picture


@figure("ch10_offline")
def offline(recording: Recorded) -> Figure:
    """The tokens of each step: with one slice at a time the engine drains at the end of each."""
    rows = recording["rows"]
    picture = Picture(width=9, height=1.2 + 1.3 * len(rows))
    panels = picture.subplots(len(rows), sharex=True, sharey=True)
    for row, axes, colour in zip(rows, panels, (ORANGE, GREEN, BLUE), strict=True):
        counts = [int(count) for count in row["tokens_by_step"].split()]
        axes.fill_between(range(len(counts)), counts, step="post", color=colour, linewidth=0)
        slices = "slice" if row["calls"] == 1 else "slices"
        steps = f"{row['steps']:,} steps in all, {row['tokens_per_step']:.1f} tokens each"
        axes.set_title(f"{row['calls']} {slices} at a time: {steps}", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, row["engine_rows"] + 1)
        axes.set_yticks((0, row["engine_rows"] // 2, row["engine_rows"]))
        axes.margins(x=0)
    first = rows[0]
    panels[len(rows) // 2].set_ylabel("tokens that a step brings")
    panels[-1].set_xlabel(f"step (the first {len(first['tokens_by_step'].split())})")
    job = f"{first['rows']} rows in slices of {first['engine_rows']}"
    picture.suptitle(f"{job}: handed in one by one, each slice drains the engine", fontsize=12)
    picture.text(1.0, 0.0, recording["device"], ha="right", va="bottom", fontsize=9, color=GREY)
    return picture
