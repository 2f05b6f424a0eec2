"""Chapter 8's figures."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, clock_note, model_of, new_chart
from toolkit.timeline import Recording, in_turns, plot_timeline


@figure("ch08_phases")
def phases(recording: Recorded) -> Figure:
    """Cold start, steady state, drain; a cancel in between leaves no gap."""
    timeline = in_turns(Recording.from_rows(recording["rows"], recording["device"]), 2)
    # Not timeline.steps(): the last prepare finds nothing to do.
    steps = [span.step for span in timeline.spans if span.name == "forward" and span.step is not None]
    title = f"Cold start to drain: a cancel leaves no gap  ·  {model_of(recording)}"
    return plot_timeline(timeline, title=title, steps=(min(steps), max(steps)))


@figure("ch08_prefix")
def prefix(recording: Recorded) -> Figure:
    """The last of the requests gains most: it need not wait until the same beginning was computed over and over."""
    rows = recording["rows"]
    cases = list(dict.fromkeys(row["common_tokens"] for row in rows))
    plain, shared = (row["last_of_all_ms"] for row in rows if row["common_tokens"] == cases[-1])
    title = f"{cases[-1]} common tokens computed once: all first tokens after {shared:.0f} ms instead of {plain:.0f}"
    load = f"{rows[0]['requests']} requests at once, {rows[0]['token_budget']} tokens in a step at most"
    picture, axes = new_chart(title, f"{clock_note(recording)}, {model_of(recording)}, {load}", height=4.2)
    for shift, sharing, colour, hatch, label in (
        (-0.2, False, BLUE, "", "every beginning computed"),
        (0.2, True, GREEN, "xx", "common beginnings shared"),
    ):
        mine = [row for row in rows if row["prefix_sharing"] is sharing]
        values = [row["last_of_all_ms"] for row in mine]
        bars = axes.bar(
            [place + shift for place in range(len(cases))], values, 0.38, color=colour, hatch=hatch, label=label, **EDGE
        )
        labels = [f"{row['last_of_all_ms']:.0f} ms\n{row['steps']} steps in all" for row in mine]
        axes.bar_label(bars, labels, padding=2, fontsize=9)
    axes.margins(y=0.18)
    axes.set_xticks(range(len(cases)), [f"{common} common tokens" for common in cases])
    axes.set_ylabel("ms until every request has a first token")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture
