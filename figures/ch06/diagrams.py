"""Chapter 6's diagrams: who uses which memory, and the grid of graphs that the lesson draws from the learner's own."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from figures import diagram
from figures.style import EDGE, GREY, ORANGE
from toolkit.timeline.picture import Picture

LIGHT = "#CFE3F1"  # of memory that is allocated once
COLUMNS = {"weights": 1.2, "KV cache": 1.4, "inputs 0": 1.3, "ids 0": 1.3, "inputs 1": 1.3, "ids 1": 1.3}  # with width
POOL = 3.2  # the width of the pool's column
ROW = 1.2  # the height of a row
USES = (
    ("copies in\n(h2d)", {"inputs 0": "write", "inputs 1": "write"}),
    ("graphs of\nbuffers 0", {"weights": "read", "KV cache": "read, write", "inputs 0": "read", "ids 0": "write"}),
    ("graphs of\nbuffers 1", {"weights": "read", "KV cache": "read, write", "inputs 1": "read", "ids 1": "write"}),
    ("copies out\n(d2h)", {"ids 0": "read", "ids 1": "read"}),
)


@diagram("ch06_memory_map")
def memory_map() -> Figure:
    """A column for each piece of memory, a row for each user of it; the pool's column shows the graphs' temporaries."""
    picture = Picture(width=8.6, height=4.8)
    axes = _empty_axes(picture)
    fixed = sum(COLUMNS.values())
    axes.set_xlim(-1.6, fixed + 0.35 + POOL)
    axes.set_ylim(-0.2 - ROW * len(USES), 2.3)
    axes.set_title("Only the graphs use the pool: what others read or write lies outside", loc="left", fontsize=11)
    left = 0.0
    for name, width in COLUMNS.items():
        what, _, number = name.partition(" ")
        _box(axes, (left, 0, width, 1), f"{what},\nbuffers {number}" if number.isdigit() else name, LIGHT)
        for row, (_, uses) in enumerate(USES):
            if name in uses:
                axes.text(left + width / 2, -ROW * (row + 0.6), uses[name], ha="center", va="center", fontsize=9)
        left += width
    pool = fixed + 0.3
    _box(axes, (pool, 0, POOL, 1), "the pool", ORANGE, "//")
    for row, (name, _) in enumerate(USES):
        axes.text(-0.15, -ROW * (row + 0.6), name, ha="right", va="center", fontsize=9)
        axes.axhline(-ROW * (row + 0.1), color="#DDDDDD", linewidth=0.6)
        if name.startswith("graphs"):
            _temporaries(axes, pool, -ROW * (row + 0.1))
    _brace(axes, 0, fixed, "allocated once, before any capture:\nstays at its address")
    _brace(axes, pool, pool + POOL, "all graphs' temporaries,\none over the other")
    return picture


def graph_grid(keys: Iterable[Sequence[int | bool]], names: dict[int, str]) -> Figure:
    """A cell for each graph, rows by IO buffers and greedy or sampled, columns by bucket; numbers: order of capture.

    Args:
        keys: of the captured graphs, as chapter 6's `graph_key` makes them: address of the output, rows, greedy.
        names: of the IO buffers, by the address of their output.
    """
    captured = list(keys)
    buckets = sorted({key[1] for key in captured})
    kinds = [(address, greedy) for address in names for greedy in (True, False)]
    shows = f"{len(captured)} graphs for {len(names)} sets of IO buffers, numbered in the order of their capture"
    picture = Picture(width=7, height=0.9 + 0.5 * len(kinds), shows=shows)
    axes = _empty_axes(picture)
    axes.set_xlim(-2.6, len(buckets))
    axes.set_ylim(len(kinds), -1.1)
    axes.text(len(buckets) / 2, -0.85, "rows of the bucket", ha="center", va="center", fontsize=9)
    for place, rows in enumerate(buckets):
        axes.text(place + 0.5, -0.35, str(rows), ha="center", va="center", fontsize=9)
        for line, (address, greedy) in enumerate(kinds):
            key = (address, rows, greedy)
            number = str(captured.index(key)) if key in captured else ""
            _box(axes, (place + 0.04, line + 0.06, 0.92, 0.88), number, LIGHT if number else "white")
    for line, (address, greedy) in enumerate(kinds):
        text = f"{names[address]}, {'greedy' if greedy else 'sampled'}"
        axes.text(-0.15, line + 0.5, text, ha="right", va="center", fontsize=9)
    return picture


def _empty_axes(picture: Picture) -> Axes:
    axes = picture.add_subplot()
    axes.set_axis_off()
    return axes


def _box(axes: Axes, place: tuple[float, float, float, float], text: str, colour: str, hatch: str = "") -> None:
    """A labelled rectangle at (left, bottom, width, height)."""
    left, bottom, width, height = place
    axes.add_patch(Rectangle((left, bottom), width, height, facecolor=colour, hatch=hatch, **EDGE))
    ground = {"facecolor": colour, "edgecolor": "none", "pad": 1.5} if hatch else None
    axes.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=9, bbox=ground)


def _temporaries(axes: Axes, left: float, top: float) -> None:
    """Bars from the pool's beginning, as long as a bucket's temporaries are large."""
    for number, rows in enumerate((32, 16, 8)):
        width, bottom = POOL * rows / 32, top - 0.05 - 0.37 * (number + 1)
        axes.add_patch(Rectangle((left, bottom), width, 0.33, facecolor=ORANGE, **EDGE))
        axes.text(left + 0.06, bottom + 0.155, f"{rows} rows", ha="left", va="center", fontsize=8.5)


def _brace(axes: Axes, left: float, right: float, text: str) -> None:
    axes.plot([left, left, right, right], [1.08, 1.2, 1.2, 1.08], color=GREY, linewidth=1)
    axes.text((left + right) / 2, 1.3, text, ha="center", va="bottom", fontsize=9)
