"""The figure of two GPUs beside one, an engine on each."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, new_chart

LOOKS = {1: (BLUE, "", "one engine on one GPU"), 2: (GREEN, "//", "two engines, each on a GPU of its own")}


@figure("several_gpus")
def several_gpus(recording: Recorded) -> Figure:
    """Tokens per second of one engine and of two, for each model and number of rows."""
    rows = recording["rows"]
    loads = sorted({(row["model"], row["rows"]) for row in rows}, key=lambda load: (load[0] != "8b", load[1]))
    speeds = {(row["model"], row["rows"], row["replicas"]): row["tokens_per_s"] for row in rows}
    gains = [speeds[*load, 2] / speeds[*load, 1] for load in loads]
    title = f"Two engines on two GPUs: {min(gains):.2f} to {max(gains):.2f} times one"
    picture, axes = new_chart(title, f"2 x {recording['device']} of one host", width=8.5, height=4.2)
    for replicas, (colour, hatch, label) in LOOKS.items():
        places = [place + (-0.2 if replicas == 1 else 0.2) for place in range(len(loads))]
        values = [speeds[*load, replicas] for load in loads]
        bars = axes.bar(places, values, 0.38, color=colour, hatch=hatch, label=label, **EDGE)
        times = [f"\n{gain:.2f} x" if replicas == 2 else "" for gain in gains]
        texts = [f"{value:,.0f}{text}" for value, text in zip(values, times, strict=True)]
        axes.bar_label(bars, texts, padding=2, fontsize=9)
    axes.set_xticks(range(len(loads)), [f"{model} shape\n{count} rows each" for model, count in loads])
    axes.margins(y=0.16)
    axes.set_ylabel("tokens per second, both together")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
