"""Chapter 7's figures, and the picture of a carry map that the lesson draws from the learner's own."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures import Recorded, figure
from figures.style import BLUE, COMPARED_MS, EDGE, GREEN, ORANGE, clock_note, new_chart
from toolkit.timeline import Recording, in_turns, plot_timeline, steady
from toolkit.timeline.picture import Picture

LOOKS = {
    "one batch at a time": (BLUE, ""),
    "two half batches": (ORANGE, "//"),
    "asynchronous": (GREEN, "xx"),
    "asynchronous=False": ("white", ".."),
}
GROUND = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1.0}}  # under words on a hatched bar


@figure("ch07_steps")
def steps(recording: Recorded) -> Figure:
    """Everybody in each batch, and one forward right behind the other."""
    timeline = in_turns(steady(Recording.from_rows(recording["rows"], recording["device"])), 2)
    numbers = timeline.steps()
    first = numbers[len(numbers) // 2 - 2]
    title = "Carry-over: every request in each batch"
    return plot_timeline(timeline, title=title, steps=(first, first + 4), length_ms=COMPARED_MS)


@figure("ch07_engines")
def engines(recording: Recorded) -> Figure:
    """As much as the idle share of one batch at a time promised, where the host keeps up; all relative to that."""
    rows = recording["rows"]
    title = "The same load through four engines: tokens per second, relative to one batch at a time"
    picture, axes = new_chart(title, clock_note(recording), width=10.5, height=4.6)
    cases = list(dict.fromkeys((row["model"], row["requests"]) for row in rows))
    ones = {case: next(r for r in rows if (r["model"], r["requests"]) == case) for case in cases}
    ceilings = {case: 1 / (1 - row["idle_share"]) for case, row in ones.items()}
    for number, (engine, (colour, hatch)) in enumerate(LOOKS.items()):
        mine = [
            next(r for r in rows if (r["model"], r["requests"]) == case and r["engine"] == engine) for case in cases
        ]
        gains = [row["tokens_per_s"] / ones[case]["tokens_per_s"] for case, row in zip(cases, mine, strict=True)]
        bars = axes.bar(
            [place + 0.22 * (number - 1.5) for place in range(len(cases))],
            gains,
            0.21,
            color=colour,
            hatch=hatch,
            label=engine,
            **EDGE,
        )
        for bar, gain, row in zip(bars, gains, mine, strict=True):
            middle = bar.get_x() + bar.get_width() / 2
            axes.text(middle, 0.05, f"idle {row['idle_share']:.0%}", fontsize=8, rotation=90, ha="center", **GROUND)
            ceiling = ceilings[row["model"], row["requests"]] if engine == "asynchronous" else 0.0
            top = ceiling if gain < ceiling < gain + 0.15 else gain  # the number stands clear of the line
            axes.text(middle, top + 0.03, f"{gain:.2f}", fontsize=9, ha="center", va="bottom")
    places = [place + 0.11 for place in range(len(cases))]
    left, right = ([place + side for place in places] for side in (-0.105, 0.105))
    label = "the ceiling, from the first bar's idle share"
    axes.hlines(list(ceilings.values()), left, right, color="black", linewidth=2, label=label)
    axes.margins(y=0.12)
    names = [f"{model} {n} requests\n(1.00 = {ones[model, n]['tokens_per_s']:.0f} tokens/s)" for model, n in cases]
    axes.set_xticks(range(len(cases)), [name.strip() for name in names], fontsize=9)
    axes.set_ylabel("times the tokens of one batch at a time")
    picture.legend(loc="outside lower center", ncols=len(LOOKS) + 1, frameon=False, fontsize=9)
    return picture


@figure("ch07_overrun")
def overrun(recording: Recorded) -> Figure:
    """What is sampled for nothing: one row for each request that ends with an EOS token. Speed: against synchronous."""
    rows = [row for row in recording["rows"] if row["asynchronous"]]
    before = [row for row in recording["rows"] if not row["asynchronous"]]
    picture, axes = new_chart("Rows that the asynchronous order samples", clock_note(recording), height=3.9)
    places = range(len(rows))
    tokens = [row["tokens"] / row["sampled"] for row in rows]
    dropped = [row["dropped"] / row["sampled"] for row in rows]
    axes.bar(places, tokens, 0.5, color=GREEN, label="tokens", **EDGE)
    bars = axes.bar(places, dropped, 0.5, bottom=tokens, color="white", hatch="//", label="dropped at commit", **EDGE)
    gains = [row["tokens_per_s"] / one["tokens_per_s"] for row, one in zip(rows, before, strict=True)]
    labels = [
        f"{row['dropped']} of {row['sampled']} rows dropped\n{gain:.2f} times the tokens/s"
        for row, gain in zip(rows, gains, strict=True)
    ]
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.set_ylim(0, 1.2)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    lengths = [f"{row['tokens'] / row['requests']:.0f} tokens a request" for row in rows]
    axes.set_xticks(
        places, [f"{text}\n{row['ended_by_eos']} end with EOS" for text, row in zip(lengths, rows, strict=True)]
    )
    axes.set_ylabel("share of the sampled rows")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture


def carry_map(sampled: Sequence[str], tokens: Sequence[str], index: Sequence[int]) -> Figure:
    """Two rows of boxes, and an arrow from each sampled id to the token that it replaces.

    Args:
        sampled: what to write on the sampled ids of the batch before, in their order.
        tokens: what to write on the packed tokens of the new batch.
        index: its carry index; one for each token, negative where the token is kept.
    """
    picture = Picture(width=8, height=2.6)
    axes = picture.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-3.2, max(len(sampled), len(tokens)))
    axes.set_ylim(-0.75, 2.55)
    for height, note, labels in ((2, "sampled ids of N", sampled), (0, "packed tokens of N + 1", tokens)):
        axes.text(-0.25, height, note, ha="right", va="center", fontsize=9)
        for place, label in enumerate(labels):
            carried = height == 0 and place < len(index) and index[place] >= 0
            box = Rectangle((place + 0.06, height - 0.3), 0.88, 0.6, edgecolor="black", linewidth=0.8)
            box.set(facecolor=ORANGE if carried else "white", hatch="//" if carried else None)
            axes.add_patch(box)
            ground = {"facecolor": ORANGE, "edgecolor": "none", "pad": 1.0} if carried else None
            axes.text(place + 0.5, height, label, ha="center", va="center", fontsize=9, bbox=ground)
    for place in range(len(sampled)):
        axes.text(place + 0.5, 2.42, str(place), ha="center", va="bottom", fontsize=8)
    axes.text(-0.25, -0.55, "carry index", ha="right", va="center", fontsize=9)
    for place, source in enumerate(index):
        axes.text(place + 0.5, -0.55, str(source), ha="center", va="center", fontsize=9)
        if source >= 0:
            arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.1}
            axes.annotate("", xy=(place + 0.5, 0.32), xytext=(source + 0.5, 1.68), arrowprops=arrow)
    return picture
