"""Chapter 3's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, GREY, ORANGE, clock_note, new_chart
from toolkit.timeline import Recording, plot_timeline, steady


@figure("ch03_steps")
def steps(recording: Recorded) -> Figure:
    """Nothing waits for anything: all three lanes start at once, and the host is done while the device computes."""
    timeline = steady(Recording.from_rows(recording["rows"], recording["device"]))
    first = timeline.steps()[0]
    return plot_timeline(timeline, title="Three streams, nothing orders them", steps=(first, first + 4))


@figure("ch03_default_stream")
def default_stream(recording: Recorded) -> Figure:
    """Does a short kernel wait for a long one on another stream? The first call says yes, the others no."""
    rows = recording["rows"]
    title = f"A short kernel, while another stream sleeps for {rows[0]['sleep_ms']:.0f} ms: done after"
    picture, axes = new_chart(title, clock_note(recording), height=3.8)
    names = list(dict.fromkeys(row["streams"] for row in rows))
    looks = [(ORANGE, "//", "first call"), (BLUE, "", "second call"), (GREY, "..", "third call")]
    for call, (colour, hatch, label) in enumerate(looks):
        values = [next(r["done_ms"] for r in rows if r["streams"] == name and r["call"] == call) for name in names]
        places = [place + 0.27 * (call - 1) for place in range(len(names))]
        bars = axes.barh(places, values, 0.25, color=colour, hatch=hatch, label=label, **EDGE)
        axes.bar_label(bars, [_milliseconds(value) for value in values], padding=3, fontsize=9)
    axes.axvline(rows[0]["sleep_ms"], color="black", linewidth=1, linestyle="--")
    axes.margins(x=0.12)
    axes.set_yticks(range(len(names)), [name.replace(", ", ",\n").replace(" and ", " and\n") for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("milliseconds on the host's clock (dashed: the sleep's end)")
    picture.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return picture


@figure("ch03_host_waits")
def host_waits(recording: Recorded) -> Figure:
    """Which calls keep the host until the device is done."""
    rows = recording["rows"]
    title = f"Behind {rows[0]['sleep_ms']:.0f} ms of work: the call returns after"
    picture, axes = new_chart(title, clock_note(recording), height=4.4)
    waits = [row["ms"] > rows[0]["sleep_ms"] / 2 for row in rows]
    bars = axes.barh(
        range(len(rows)),
        [row["ms"] for row in rows],
        0.7,
        color=[ORANGE if each else BLUE for each in waits],
        hatch=["//" if each else "" for each in waits],
        **EDGE,
    )
    axes.bar_label(bars, [_milliseconds(row["ms"]) for row in rows], padding=3)
    axes.margins(x=0.12)
    axes.set_yticks(range(len(rows)), [row["call"] for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("milliseconds on the host's clock")
    return picture


@figure("ch03_forward")
def forward(recording: Recorded) -> Figure:
    """Kernel by kernel the device is done no sooner than the host has launched; as one launch it is quicker."""
    rows = recording["rows"]
    title = f"One decode forward for {rows[0]['rows']} rows"
    picture, axes = new_chart(title, clock_note(recording), height=3.6)
    looks = (
        ("host_ms", ORANGE, "//", "the host launches", -0.2),
        ("device_ms", GREEN, "", "until the device is done", 0.2),
    )
    for key, colour, hatch, label, shift in looks:
        values = [row[key] for row in rows]
        bars = axes.bar(
            [place + shift for place in range(len(rows))], values, 0.38, color=colour, hatch=hatch, label=label, **EDGE
        )
        axes.bar_label(bars, [f"{value:.3g} ms" for value in values], padding=3, fontsize=9)
    axes.margins(y=0.15)
    axes.set_xticks(range(len(rows)), [row["forward"] for row in rows])
    axes.set_ylabel("milliseconds")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture


@figure("ch03_wrong")
def wrong(recording: Recorded) -> Figure:
    """How many tokens are wrong, run by run."""
    rows = recording["rows"]
    picture, axes = new_chart("Wrong tokens, one bar per run", recording["device"], height=3.6)
    names = list(dict.fromkeys(row["engine"] for row in rows))
    for place, name in enumerate(names):
        shares = [row["wrong_share"] for row in rows if row["engine"] == name]
        places = [place + 0.16 * (run - (len(shares) - 1) / 2) for run in range(len(shares))]
        bars = axes.bar(places, shares, 0.14, color=ORANGE, hatch="//", **EDGE)
        axes.bar_label(bars, [f"{share:.0%}" for share in shares], padding=2, fontsize=8)
    axes.set_ylim(0, 1.12)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xticks(range(len(names)), [_label(name, rows) for name in names])
    axes.set_ylabel("share of wrong tokens")
    return picture


def _milliseconds(value: float) -> str:
    return f"{value:.2g} ms" if value < 1 else f"{value:.0f} ms"


def _label(name: str, rows: list[dict[str, object]]) -> str:
    """The engine's name, and on a simulated GPU the policy and what the detector said."""
    row = next(row for row in rows if row["engine"] == name)
    text = name.replace(", ", ",\n")
    if row["policy"] is None:
        return text
    policy = str(row["policy"]).split(":")[0]
    reported = f"{row['races']} kinds of race reported" if row["races"] else "no race reported"
    return f"{text}\n(policy {policy})\n{reported}"
