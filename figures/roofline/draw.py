"""How near a decode step comes to its floor, the time that reading the weights and the KV cache takes."""

from matplotlib.figure import Figure

from figures import Recorded, figure
from figures.style import BLUE, EDGE, GREEN, GREY, ORANGE, PINK, new_chart

LOOKS = {
    "operation by operation": (ORANGE, "s:"),
    "graph": (BLUE, "o-"),
    "merged, graph": (GREY, "v--"),
    "compiled, graph": (PINK, "^-"),
    "merged, compiled, graph": (GREEN, "D-"),
}
FLOOR = "the floor: bytes over copy bandwidth"


def note(recording: Recorded) -> str:
    """Where it was measured, and the bandwidth that the floor is made with."""
    bandwidth = recording["rows"][0]["copy_tb_per_s"]
    return f"{recording['device']}, which copies {bandwidth:.2f} TB/s (bytes read and bytes written)"


@figure("roofline_step")
def step(recording: Recorded) -> Figure:
    """A whole decode step in five forms of the same model, over the tokens that each row has in the cache."""
    rows = recording["rows"]
    best = [row["ms"] / row["floor_ms"] for row in rows if row["form"] == "merged, compiled, graph"]
    title = f"A decode step comes within {max(best):.2f} times its floor (8b shape, {rows[0]['rows']} rows)"
    picture, axes = new_chart(title, note(recording), height=4.8)
    contexts = sorted({row["context"] for row in rows})
    for name, (colour, style) in LOOKS.items():
        values = [next(r["ms"] for r in rows if r["form"] == name and r["context"] == c) for c in contexts]
        axes.plot(contexts, values, style, color=colour, markersize=6, label=name)
    floors = [next(row["floor_ms"] for row in rows if row["context"] == context) for context in contexts]
    axes.plot(contexts, floors, "-", color="black", linewidth=2, label=FLOOR)  # no marks: it is computed
    axes.set_ylim(bottom=0)
    axes.set_xticks(contexts, [f"{context:,}" for context in contexts])
    axes.set_xlabel("tokens of each row in the cache")
    axes.set_ylabel("milliseconds per step")
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return picture


@figure("roofline_attention")
def attention(recording: Recorded) -> Figure:
    """The attention of one layer by itself: the longer the context, the nearer to its floor."""
    rows = recording["rows"]
    title = "Attention nears its floor as the context grows (one layer of the 8b shape)"
    picture, axes = new_chart(title, note(recording))
    for key, shift, colour, label in (
        ("ms", -0.2, BLUE, "measured, in a graph (times the floor)"),
        ("floor_ms", 0.2, "white", FLOOR),
    ):
        places = [place + shift for place in range(len(rows))]
        values = [row[key] * 1e3 for row in rows]
        bars = axes.bar(places, values, 0.38, color=colour, label=label, **EDGE)
        times = [f"\n({row['times_floor']:.2f})" if key == "ms" else "" for row in rows]
        axes.bar_label(bars, [f"{value:.0f}{text}" for value, text in zip(values, times, strict=True)], padding=3)
    axes.margins(y=0.15)
    axes.set_xticks(range(len(rows)), [f"{row['context']:,}" for row in rows])
    axes.set_xlabel(f"tokens of each row in the cache ({rows[0]['rows']} rows, {rows[0]['attention']})")
    axes.set_ylabel("microseconds")
    picture.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return picture
