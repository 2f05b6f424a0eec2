"""Chapter 8's figures."""

from matplotlib.figure import Figure

from figures import Recorded, diagram, figure
from figures.style import BLUE, EDGE, GREEN, GREY, clock_note, new_chart
from toolkit.timeline import Recording, in_turns, plot_timeline
from toolkit.timeline.picture import Picture


@figure("ch08_phases")
def phases(recording: Recorded) -> Figure:
    """Cold start, steady state, drain; a cancel in between leaves no gap."""
    timeline = in_turns(Recording.from_rows(recording["rows"], recording["device"]), 2)
    # Not timeline.steps(): the last prepare finds nothing to do.
    steps = [span.step for span in timeline.spans if span.name == "forward" and span.step is not None]
    title = "From cold start to drain, one of three requests cancelled after three steps"
    return plot_timeline(timeline, title=title, steps=(min(steps), max(steps)))


@figure("ch08_prefix")
def prefix(recording: Recorded) -> Figure:
    """The last of the requests gains most: it need not wait until the same beginning was computed over and over."""
    rows = recording["rows"]
    cases = list(dict.fromkeys(row["common_tokens"] for row in rows))
    title = f"{rows[0]['requests']} requests at once, {rows[0]['token_budget']} tokens in a step at most"
    picture, axes = new_chart(title, clock_note(recording), height=4.2)
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


@diagram("ch08_states")
def states() -> Figure:
    """A request's three states, and what a row in flight has to do with them."""
    picture = Picture(width=9.0, height=3.5)
    axes = picture.add_subplot()
    axes.set_title("Whatever happens to a request, its row in flight is left alone", loc="left", fontsize=12)
    boxes = {
        "waiting": (0.12, "waiting\nno blocks"),
        "running": (0.5, "running\nblocks, and often\na row in flight"),
        "ended": (0.88, "ended\none last output"),
    }
    for place, text in boxes.values():
        look = {"boxstyle": "round,pad=0.6", "facecolor": "white", "edgecolor": BLUE, "linewidth": 1.6}
        axes.text(place, 0.55, text, ha="center", va="center", fontsize=11, bbox=look)
    arrow = {"arrowstyle": "-|>", "color": "black", "linewidth": 1.2}
    for left, right, height, text in (
        (0.2, 0.39, 0.62, "admitted:\ntakes blocks"),
        (0.39, 0.2, 0.48, "preempted, or a step failed:\nepoch + 1, blocks back"),
        (0.61, 0.78, 0.62, "length, EOS, stop string,\ncancelled, error:\nepoch + 1, blocks back"),
    ):
        axes.annotate("", (right, height), (left, height), arrowprops=arrow)
        side, alignment = (0.04, "bottom") if right > left else (-0.04, "top")
        axes.text((left + right) / 2, height + side, text, ha="center", va=alignment, fontsize=9)
    axes.annotate("", (0.88, 0.42), (0.12, 0.1), arrowprops=arrow | {"connectionstyle": "angle,angleA=0,angleB=90"})
    axes.plot([0.12, 0.12], [0.1, 0.42], color="black", linewidth=1.2)
    axes.text(0.5, 0.12, "cancelled, error", ha="center", va="bottom", fontsize=9)
    note = "At commit, a row whose epoch is not its request's any more is dropped: its token counts for nothing."
    axes.text(0.5, -0.02, note, ha="center", fontsize=9, color=GREY)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.08, 0.98)
    axes.axis("off")
    return picture
