"""What joins the bars in a picture: arrows for events, and red lines for races, each with the edge that is missing."""

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle

from toolkit.timeline.bars import BAR_HEIGHT, FEWEST_PIXELS
from toolkit.timeline.intervals import Interval
from toolkit.timeline.lanes import Joined
from toolkit.timeline.looks import EDGE_COLOUR, RACE_COLOUR
from toolkit.timeline.spans import Edge, Span

Place = tuple[float, float]  # milliseconds from the axis' left end, row


def draw_edges(axes: Axes, edges: list[Edge], lanes: list[str], shown: Interval) -> list[Line2D]:
    """An arrow for each edge that is seen, from record to wait; returns the legend's entries."""
    seen = [edge for edge in edges if edge.start <= shown[1] and edge.end >= shown[0]]
    for edge in seen:
        rows = lanes.index(edge.first), lanes.index(edge.second)
        places = [((at - shown[0]) * 1e3, row) for at, row in zip((edge.start, edge.end), rows, strict=True)]
        _arrow(axes, *_at_borders(*places), EDGE_COLOUR, "edge")
    return [Line2D([], [], color=EDGE_COLOUR, marker=">", markersize=4, label="event: record to wait")] if seen else []


def draw_races(axes: Axes, races: list[Joined], lanes: list[str], shown: Interval, per_pixel: float) -> list[Line2D]:
    """A dashed line for each two bars that race, and the missing edge once for each two lanes; the legend's entries."""
    explained = set()
    for race in races:
        bars = [_cut(bar, shown) for bar in (race.first, race.second)]
        if any(start > end for start, end in bars):
            continue  # one of them is outside of the picture
        rows = [lanes.index(lane) for lane in race.lanes]
        middles = [(start + end) / 2 for start, end in bars]
        line = Line2D(middles, rows, color=RACE_COLOUR, linewidth=1.7, linestyle=(0, (4, 2)), marker="o", markersize=4)
        line.set_gid("race")
        axes.add_line(line)
        for (start, end), row in zip(bars, rows, strict=True):
            corner, width = (start, row - BAR_HEIGHT / 2), max(end - start, FEWEST_PIXELS * per_pixel)
            frame = Rectangle(corner, width, BAR_HEIGHT, fill=False, edgecolor=RACE_COLOUR, linewidth=1.7, gid="racing")
            axes.add_patch(frame)
        if race.lanes not in explained:
            explained.add(race.lanes)
            first, second = (bars[0][1], rows[0]), (bars[1][0], rows[1])
            _arrow(axes, *_at_borders(first, second), RACE_COLOUR, "missing edge")
    if not explained:
        return []
    return [
        Line2D([], [], color=RACE_COLOUR, linestyle=(0, (4, 2)), marker="o", markersize=4, label="race: not ordered"),
        Line2D([], [], color=RACE_COLOUR, marker=">", markersize=4, label="the missing edge"),
    ]


def _cut(bar: Span, shown: Interval) -> Interval:
    """The part of a bar that is shown, in milliseconds from the left end; its start lies behind its end if none is."""
    return (max(bar.start, shown[0]) - shown[0]) * 1e3, (min(bar.end, shown[1]) - shown[0]) * 1e3


def _at_borders(first: Place, second: Place) -> tuple[Place, Place]:
    """From the first bar's border to that of the second, on the sides that face each other."""
    side = BAR_HEIGHT / 2 if first[1] < second[1] else -BAR_HEIGHT / 2
    return (first[0], first[1] + side), (second[0], second[1] - side)


def _arrow(axes: Axes, first: Place, second: Place, colour: str, gid: str) -> None:
    arrow = FancyArrowPatch(first, second, arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, gid=gid)
    arrow.set(color=colour, linewidth=1.2, zorder=2.5)
    axes.add_patch(arrow)
