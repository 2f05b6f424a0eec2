"""Chapter 7's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.compared import compared_steps
from figures.style import BLUE, EDGE, GREEN, ORANGE, clock_note, model_of, new_chart

LOOKS = {
    "one batch at a time": (BLUE, ""),
    "two half batches": (ORANGE, "//"),
    "asynchronous": (GREEN, "xx"),
    "asynchronous=False": ("white", ".."),
}


@figure("ch07_steps")
def steps(recording: Recorded) -> Figure:
    """All requests in each batch, and one forward right behind the other."""
    return compared_steps(recording, "Carry-over: every request in each batch", sets=2)


@figure("ch07_engines")
def engines(recording: Recorded) -> Figure:
    """As much as the idle share of one batch at a time promised, where the host keeps up; all relative to that."""
    rows = recording["rows"]
    title = "Carry-over gains what the idle share promised, if the host keeps up"
    picture, axes = new_chart(title, clock_note(recording), height=4.8)
    cases = list(dict.fromkeys((row["model"], row["requests"]) for row in rows))
    ones = {case: next(r for r in rows if (r["model"], r["requests"]) == case) for case in cases}
    for number, (engine, (colour, hatch)) in enumerate(LOOKS.items()):
        mine = [
            next(r for r in rows if (r["model"], r["requests"]) == case and r["engine"] == engine) for case in cases
        ]
        gains = [row["tokens_per_s"] / ones[case]["tokens_per_s"] for case, row in zip(cases, mine, strict=True)]
        places = [place + 0.22 * (number - 1.5) for place in range(len(cases))]
        axes.bar(places, gains, 0.21, color=colour, hatch=hatch, label=engine, **EDGE)
        for place, gain, case in zip(places, gains, cases, strict=True):
            ceiling = _ceiling(ones[case]) if engine == "asynchronous" else 0.0
            top = ceiling if gain < ceiling < gain + 0.15 else gain  # the number is clear of the line
            axes.text(place, top + 0.03, f"{gain:.2f}", fontsize=9, ha="center", va="bottom")
    left, right = ([place + side for place in range(len(cases))] for side in (0.0, 0.22))
    label = "the most that the idle share allows"
    axes.hlines([_ceiling(ones[case]) for case in cases], left, right, color="black", linewidth=2, label=label)
    axes.margins(y=0.12)
    names = [f"{model} {n} requests\nidle {ones[model, n]['idle_share']:.0%} at first" for model, n in cases]
    axes.set_xticks(range(len(cases)), [name.strip() for name in names], fontsize=9)
    axes.set_ylabel("tokens per second, as multiples of\none batch at a time")
    picture.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return picture


def _ceiling(one: dict[str, float]) -> float:
    """What can be gained over one batch at a time if all its gaps go."""
    return 1 / (1 - one["idle_share"])


@figure("ch07_overrun")
def overrun(recording: Recorded) -> Figure:
    """What is sampled for nothing: one row for each request that ends with an EOS token. Speed: against synchronous."""
    rows = [row for row in recording["rows"] if row["asynchronous"]]
    before = [row for row in recording["rows"] if not row["asynchronous"]]
    shares = [f"{row['dropped'] / row['sampled']:.0%}" for row in (rows[0], rows[-1])]
    title = f"A row too many for each EOS: {shares[0]} of all rows if answers are short, {shares[1]} if they are long"
    load = f"{rows[0]['requests']} requests in {rows[0]['rows']} rows"
    picture, axes = new_chart(title, f"{clock_note(recording)}, {model_of(recording)}, {load}", height=3.9)
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
    axes.set_xlabel("(tokens/s: against the synchronous order)", fontsize=9)
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
