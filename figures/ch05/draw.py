"""Chapter 5's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.compared import compared_steps
from figures.style import BLUE, EDGE, ORANGE, clock_note, new_chart


@figure("ch05_steps")
def steps(recording: Recorded) -> Figure:
    """While the device computes a batch, the host commits the one before and prepares the next."""
    return compared_steps(recording, "Two half batches in flight, in turns", sets=2)


@figure("ch05_price")
def price(recording: Recorded) -> Figure:
    """No gap left, and fewer tokens per second, unless the host's work is the longer part."""
    rows = recording["rows"]
    fewer = [two["tokens_per_s"] < one["tokens_per_s"] for one, two in zip(rows[::2], rows[1::2], strict=True)]
    title = f"Two half batches: no gap, and fewer tokens per second in {sum(fewer)} of {len(fewer)} cases"
    note = f"{clock_note(recording)}; one batch at a time has all requests in it"
    picture, axes = new_chart(title, note, height=4.4)
    cases = list(dict.fromkeys((row["model"], row["requests"]) for row in rows))
    for engine, colour, hatch, shift in (
        ("one batch at a time", BLUE, "", -0.2),
        ("two half batches", ORANGE, "//", 0.2),
    ):
        mine = [
            next(r for r in rows if (r["model"], r["requests"]) == case and r["engine"] == engine) for case in cases
        ]
        bars = axes.bar(
            [place + shift for place in range(len(cases))],
            [row["tokens_per_s"] for row in mine],
            0.38,
            color=colour,
            hatch=hatch,
            label=engine,
            **EDGE,
        )
        labels = [f"{row['tokens_per_s']:.0f}\nidle {row['idle_share']:.0%}" for row in mine]
        axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.margins(y=0.18)
    axes.set_xticks(range(len(cases)), [f"{model}\n{n} requests".strip() for model, n in cases])
    axes.set_ylabel("tokens per second")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
