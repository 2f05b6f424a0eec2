"""Chapter 7's figures."""

from matplotlib.figure import Figure

from toolkit.decoding import steady
from toolkit.figures import Recorded, figure
from toolkit.figures.style import BLUE, GREEN, GREY, ORANGE, clock_note, new_chart
from toolkit.timeline import Recording, plot_timeline

LOOKS = {
    "one slot": (BLUE, ""),
    "two half batches": (ORANGE, "//"),
    "asynchronous": (GREEN, "xx"),
    "asynchronous=False": ("white", ".."),
}


@figure("ch07_steps")
def steps(recording: Recorded) -> Figure:
    """Everybody in each batch, and one forward right behind the other."""
    timeline = steady(Recording.from_rows(recording["rows"], recording["device"]))
    numbers = timeline.steps()
    first = numbers[len(numbers) // 2 - 2]
    return plot_timeline(timeline, title="Carry-over, everybody in each batch", steps=(first, first + 4))


@figure("ch07_engines")
def engines(recording: Recorded) -> Figure:
    """No gap and no half batches: as much as the idle share of one slot promised, as long as the host keeps up."""
    rows = recording["rows"]
    picture, axes = new_chart("The same load through four engines", clock_note(recording), width=9.5, height=4.6)
    cases = list(dict.fromkeys((row["model"], row["requests"]) for row in rows))
    for number, (engine, (colour, hatch)) in enumerate(LOOKS.items()):
        mine = [
            next(r for r in rows if (r["model"], r["requests"]) == case and r["engine"] == engine) for case in cases
        ]
        bars = axes.bar(
            [place + 0.21 * (number - 1.5) for place in range(len(cases))],
            [row["tokens_per_s"] for row in mine],
            0.2,
            color=colour,
            hatch=hatch,
            edgecolor="black",
            linewidth=0.6,
            label=engine,
        )
        labels = [f"{row['tokens_per_s']:.0f}\nidle\n{row['idle_share']:.0%}" for row in mine]
        axes.bar_label(bars, labels, padding=2, fontsize=8)
    axes.margins(y=0.2)
    axes.set_xticks(range(len(cases)), [f"{model}\n{n} requests".strip() for model, n in cases])
    axes.set_ylabel("tokens per second")
    picture.legend(loc="outside lower center", ncols=len(LOOKS), frameon=False)
    return picture


@figure("ch07_overrun")
def overrun(recording: Recorded) -> Figure:
    """What the asynchronous order samples for nothing: one row for each request that ends with an EOS token."""
    rows = [row for row in recording["rows"] if row["asynchronous"]]
    before = [row for row in recording["rows"] if not row["asynchronous"]]
    picture, axes = new_chart("Rows that the asynchronous order samples", clock_note(recording), height=3.9)
    places = range(len(rows))
    tokens = [row["tokens"] / row["sampled"] for row in rows]
    dropped = [row["dropped"] / row["sampled"] for row in rows]
    axes.bar(places, tokens, 0.5, color=GREEN, edgecolor="black", linewidth=0.6, label="tokens")
    bars = axes.bar(
        places,
        dropped,
        0.5,
        bottom=tokens,
        color="white",
        hatch="//",
        edgecolor="black",
        linewidth=0.6,
        label="dropped at commit",
    )
    labels = [
        f"{row['dropped']} of {row['sampled']} dropped ({share:.1%})\n"
        f"{row['tokens_per_s'] / one['tokens_per_s']:.2f} times the tokens/s of asynchronous=False"
        for row, one, share in zip(rows, before, dropped, strict=True)
    ]
    axes.bar_label(bars, labels, padding=3, fontsize=8, color=GREY)
    axes.set_ylim(0, 1.15)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xticks(
        places,
        [
            f"{row['tokens'] / row['requests']:.0f} tokens a request\n({row['ended_by_eos']} end with EOS)"
            for row in rows
        ],
    )
    axes.set_ylabel("share of the sampled rows")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
