"""Chapter 4's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.compared import compared_steps
from figures.style import BLUE, EDGE, ORANGE, clock_note, model_of, new_chart


@figure("ch04_steps")
def steps(recording: Recorded) -> Figure:
    """Each lane waits for the one before it, and the host for the last."""
    return compared_steps(recording, "Three streams and events")


@figure("ch04_eager_steps")
def eager_steps(recording: Recorded) -> Figure:
    """The same engine with the forward launched kernel by kernel: the host launches for as long as it runs."""
    return compared_steps(recording, "The same, launched kernel by kernel")


@figure("ch04_engines")
def engines(recording: Recorded) -> Figure:
    """Right again, and no faster than one stream."""
    rows = recording["rows"]
    one, events = rows[0]["ms_per_step"], rows[-1]["ms_per_step"]
    title = f"With events all tokens are right, in {events:.1f} ms per step; one stream takes {one:.1f} ms"
    picture, axes = new_chart(title, f"{clock_note(recording)}, {model_of(recording)}", height=3.8)
    wrong = [row["wrong_share"] > 0 for row in rows]
    bars = axes.bar(
        range(len(rows)),
        [row["ms_per_step"] for row in rows],
        0.55,
        color=[ORANGE if each else BLUE for each in wrong],
        hatch=["//" if each else "" for each in wrong],
        **EDGE,
    )
    labels = [
        f"{row['ms_per_step']:.1f} ms, idle {row['idle_share']:.0%}\n"
        + (f"{row['wrong_share']:.0%} of the tokens wrong" if row["wrong_share"] else "all tokens right")
        for row in rows
    ]
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.margins(y=0.25)
    axes.set_xticks(range(len(rows)), [row["engine"] for row in rows])
    axes.set_ylabel("milliseconds per step")
    return picture


@figure("ch04_edges")
def edges(recording: Recorded) -> Figure:
    """Each event left out in turn: with luck, and with the work that it marks coming late."""
    rows = recording["rows"]
    names = list(dict.fromkeys(row["missing"] for row in rows))
    as_it_comes = [row for row in rows if row["late_ms"] == 0]
    lucky = [name for name in names[1:] if not any(r["wrong_share"] for r in as_it_comes if r["missing"] == name)]
    title = f"One event left out: unnoticed in {len(lucky)} of {len(names) - 1} cases, until the work comes late"
    note = f"{recording['device']}, {model_of(recording, '1B')}; one bar per run"
    picture, axes = new_chart(title, note, height=3.9)
    late_ms = max(row["late_ms"] for row in rows)
    for late, colour, hatch, shift in ((False, BLUE, "", -0.21), (True, ORANGE, "//", 0.21)):
        for place, name in enumerate(names):
            shares = [r["wrong_share"] for r in rows if r["missing"] == name and (r["late_ms"] > 0) == late]
            places = [place + shift + 0.075 * (run - (len(shares) - 1) / 2) for run in range(len(shares))]
            label = (f"made {late_ms:.0f} ms late" if late else "as it comes") if place == 0 else None
            axes.bar(places, shares, 0.065, color=colour, hatch=hatch, label=label, **EDGE)
            axes.text(
                place + shift,
                max(shares) + 0.02,
                f"{sum(shares) / len(shares):.0%}",
                ha="center",
                va="bottom",
                fontsize=9,
            )
    axes.set_ylim(0, 1.15)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xticks(range(len(names)), [_missing(name, rows) for name in names])
    axes.set_ylabel("share of wrong tokens")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture


def _missing(name: str, rows: list[dict[str, object]]) -> str:
    """What is missing, and on a simulated GPU what its detector reported."""
    races = next(row["races"] for row in rows if row["missing"] == name)
    text = "nothing missing" if name == "none" else f"no {name}"
    return text if races is None else f"{text}\n{f'{races} kinds of race' if races else 'no race'} reported"
