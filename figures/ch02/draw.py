"""Chapter 2's figures."""

from typing import Any

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, GREY, ORANGE, new_chart
from figures.turn import steps_and_turn
from toolkit.timeline import Recording

# At a place of the x axis, and at a share of the height.
ABOVE: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 9}


@figure("ch02_spread")
def spread(recording: Recorded) -> Figure:
    """What continuous batching gains depends on how unequal the lengths are."""
    rows = recording["rows"]
    title = f"Static against continuous batching, {rows[0]['rows']} rows, the same requests"
    picture, axes = new_chart(title, recording["device"], height=4.4)
    names = list(dict.fromkeys(row["lengths"] for row in rows))
    looks = {"static": (ORANGE, "//", -0.2), "continuous": (BLUE, "", 0.2)}
    for batching, (colour, hatch, shift) in looks.items():
        mine = [next(r for r in rows if r["lengths"] == name and r["batching"] == batching) for name in names]
        bars = axes.bar(
            [place + shift for place in range(len(names))],
            [row["tokens_per_s"] for row in mine],
            0.38,
            color=colour,
            hatch=hatch,
            label=batching,
            **EDGE,
        )
        axes.bar_label(
            bars, [f"{row['tokens_per_s']:.0f}\n{row['steps']} steps" for row in mine], padding=3, fontsize=9
        )
    axes.margins(y=0.18)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("new tokens that the requests ask for")
    axes.set_ylabel("tokens per second")
    picture.legend(loc="outside lower center", ncols=2, frameon=False)
    return picture


@figure("ch02_budget")
def budget(recording: Recorded) -> Figure:
    """A small budget bounds the gap between two tokens; prefill first does not, and the newcomer pays for it."""
    rows = recording["rows"]
    title = f"A prompt of {rows[0]['long_prompt']} tokens arrives while {rows[0]['decoding_requests']} requests decode"
    picture, axes = new_chart(title, recording["device"], height=4.4)
    budgets = sorted({row["token_budget"] for row in rows})
    lines = (
        ("fcfs", "longest_gap_ms", BLUE, "o-", "longest gap between two tokens, FCFS"),
        ("prefill_first", "longest_gap_ms", ORANGE, "s--", "longest gap between two tokens, prefill first"),
        ("fcfs", "first_token_ms", GREEN, "^:", "the newcomer's first token, FCFS"),
    )
    for policy, key, colour, style, label in lines:
        values = [next(r[key] for r in rows if r["token_budget"] == b and r["policy"] == policy) for b in budgets]
        axes.plot(budgets, values, style, color=colour, markersize=8, markeredgecolor="black", label=label)
    axes.axvline(rows[0]["long_prompt"], color=GREY, linestyle=":")
    axes.annotate("the whole\nprompt", (rows[0]["long_prompt"], 0.97), (-6, 0), ha="right", va="top", **ABOVE)
    axes.set_ylim(bottom=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(b) for b in budgets])
    axes.minorticks_off()
    axes.set_xlabel("token budget of a step")
    axes.set_ylabel("milliseconds")
    picture.legend(loc="outside lower center", ncols=1, frameon=False)
    return picture


@figure("ch02_steps")
def steps(recording: Recorded) -> Figure:
    """Requests decode, and at step 3 another one joins."""
    timeline = Recording.from_rows(recording["rows"], recording["device"])
    return steps_and_turn(timeline, "A request joins at step 3, and the turns are as before", steps=(1, 6), after=2)
