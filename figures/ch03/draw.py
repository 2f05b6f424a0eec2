"""Chapter 3's figures."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, GREY, ORANGE, clock_note, model_of, new_chart, without_invisible_waits
from toolkit.timeline import Recording, plot_timeline, steady


@figure("ch03_steps")
def steps(recording: Recorded) -> Figure:
    """Nothing waits for anything: all three lanes start at once, and the host is done while the device computes."""
    timeline = steady(Recording.from_rows(recording["rows"], recording["device"]))
    first = timeline.steps()[0]
    start, end = timeline.step_window(first, first + 4)
    timeline = without_invisible_waits(timeline, 1e3 * (end - start))
    title = f"Nothing orders three streams: the host runs ahead  ·  {model_of(recording)}"
    picture = plot_timeline(timeline, title=title, steps=(first, first + 4))
    _number_batches(picture.axes[0], timeline)
    return picture


def _number_batches(axes: Axes, timeline: Recording) -> None:
    """Above the host's row the numbers of the batches that it has committed, and when it is through with all."""
    start = timeline.step_window(timeline.steps()[0], timeline.steps()[0])[0]
    done = {span.step: (span.end - start) * 1e3 for span in timeline.spans if span.name == "commit"}
    steps = timeline.steps()
    first, last = steps[0], steps[-1]
    for step in steps:
        if step in done and (step == last or (step % 10 == 0 and last - step > 5)):
            axes.annotate(
                f"batch {step}",
                (done[step], -0.31),
                (done[step], -0.62),
                ha="center",
                va="bottom",
                fontsize=9,
                arrowprops={"arrowstyle": "-", "linewidth": 0.8},
                annotation_clip=False,
            )
    axes.set_ylim(top=-0.85)
    if done[last] < axes.get_xlim()[1]:
        axes.text(done[last], 0, f"  has committed\n  batches {first} to {last}", va="center", fontsize=9)


@figure("ch03_default_stream")
def default_stream(recording: Recorded) -> Figure:
    """Does a short kernel wait for a long one on another stream? The first call says yes, the others no."""
    rows = recording["rows"]
    sleep_ms = rows[0]["sleep_ms"]
    title = "Only a kernel's first call waits for a stream that sleeps"
    picture, axes = new_chart(title, clock_note(recording), height=3.8)
    names = list(dict.fromkeys(row["streams"] for row in rows))
    looks = [(ORANGE, "//", "first call"), (BLUE, "", "second call"), (GREY, "..", "third call")]
    for call, (colour, hatch, label) in enumerate(looks):
        values = [next(r["done_ms"] for r in rows if r["streams"] == name and r["call"] == call) for name in names]
        places = [place + 0.27 * (call - 1) for place in range(len(names))]
        bars = axes.barh(places, _visible(values, sleep_ms), 0.25, color=colour, hatch=hatch, label=label, **EDGE)
        axes.bar_label(bars, [_milliseconds(value) for value in values], padding=3, fontsize=9)
    axes.axvline(sleep_ms, color="black", linewidth=1, linestyle="--")
    axes.margins(x=0.12)
    axes.set_yticks(range(len(names)), [name.replace(", ", ",\n").replace(" and ", " and\n") for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel(f"milliseconds until it is done, on the host's clock (dashed: the sleep's end)\n({_WIDENED})")
    picture.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return picture


@figure("ch03_host_waits")
def host_waits(recording: Recorded) -> Figure:
    """Which calls keep the host until the device is done."""
    rows = recording["rows"]
    sleep_ms = rows[0]["sleep_ms"]
    waits = [row["ms"] > sleep_ms / 2 for row in rows]
    title = f"Behind {sleep_ms:.0f} ms of work: {sum(waits)} of {len(rows)} calls make the host wait"
    picture, axes = new_chart(title, clock_note(recording), height=4.4)
    bars = axes.barh(
        range(len(rows)),
        _visible([row["ms"] for row in rows], sleep_ms),
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
    axes.set_xlabel(f"milliseconds until the call returns, on the host's clock\n({_WIDENED})")
    return picture


@figure("ch03_forward")
def forward(recording: Recorded) -> Figure:
    """Kernel by kernel the device is done no sooner than the host has launched; as one launch it is quicker."""
    rows = recording["rows"]
    ratio = rows[0]["device_ms"] / rows[1]["device_ms"]
    title = f"A forward as one launch is done {ratio:.0f} times as soon as kernel by kernel"
    note = f"{clock_note(recording)}, {model_of(recording)}, a decode forward for {rows[0]['rows']} rows"
    picture, axes = new_chart(title, note, height=3.2)
    longest = max(row["device_ms"] for row in rows)
    looks = (
        ("host_ms", ORANGE, "//", "the host launches", -0.2),
        ("device_ms", GREEN, "", "until the device is done", 0.2),
    )
    for key, colour, hatch, label, shift in looks:
        values = [row[key] for row in rows]
        places = [place + shift for place in range(len(rows))]
        bars = axes.barh(places, _visible(values, longest), 0.36, color=colour, hatch=hatch, label=label, **EDGE)
        axes.bar_label(bars, [f"{value:.2g} ms" if value < 1 else f"{value:.1f} ms" for value in values], padding=3)
    axes.margins(x=0.12)
    axes.set_yticks(range(len(rows)), [row["forward"] for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel(f"milliseconds ({_WIDENED})")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture


@figure("ch03_wrong")
def wrong(recording: Recorded) -> Figure:
    """How many tokens are wrong, run by run."""
    rows = recording["rows"]
    names = list(dict.fromkeys(row["engine"] for row in rows))
    one = [row["wrong_share"] > 0 for row in rows if row["engine"] == names[0]]
    three = [row["wrong_share"] > 0 for row in rows if row["engine"] != names[0]]
    title = f"Wrong tokens in {sum(three)} of {len(three)} runs on three streams, in {sum(one)} of {len(one)} on one"
    note = f"{recording['device']}, {model_of(recording, '1B')}; one bar per run"
    picture, axes = new_chart(title, note, height=3.6)
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


_WIDENED = "the shortest bars are widened to be seen"


def _visible(values: list[float], longest: float) -> list[float]:
    """Lengths of bars, of which none vanishes beside the longest."""
    return [max(value, longest / 150) for value in values]


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
