"""What joins the bars of a timeline's page: arrows for events, red lines for races, and the edges that are missing."""

from typing import Any

from bokeh.models import ColumnDataSource, HoverTool

from toolkit.timeline.bars import BAR_HEIGHT
from toolkit.timeline.lanes import Joined
from toolkit.timeline.looks import EDGE_COLOUR, RACE_COLOUR
from toolkit.timeline.spans import Edge, Span

MOST_LISTED = 3  # of the memory that two bars race on


def add_edges(chart: Any, edges: list[Edge], lanes: list[str], origin: float) -> None:  # noqa: ANN401
    """An arrow for each event, from where it was recorded to who waits for it."""
    if edges:
        columns = _at_borders([(edge.first, edge.start, edge.second, edge.end) for edge in edges], lanes, origin)
        columns["what"] = [f"{edge.second} waits for {edge.first}" for edge in edges]
        columns["recorded"] = [edge.recorded or "-" for edge in edges]
        columns["waited"] = [edge.waited or "-" for edge in edges]
        shown = {"event": "@what", "recorded": "@recorded", "waited for": "@waited"}
        _arrows(chart, columns, shown, {"color": EDGE_COLOUR, "legend_label": "event: record to wait"})


def add_races(
    chart: Any,  # noqa: ANN401
    races: list[Joined],
    label: str,
    lanes: list[str],
    origin: float,
    visible: bool = True,
) -> None:
    """A dashed line for each two bars that race, and an arrow where the edge between them is missing."""
    if not races:
        return
    facts = {
        "what": [f"{len(race.races)} between these two, on {_memory(race)}" for race in races],
        "first": [_operation(race.races[0].first) for race in races],
        "second": [_operation(race.races[0].second) for race in races],
        "missing": [race.races[0].missing for race in races],
    }
    shown = {"race": "@what", "1st": "@first", "2nd": "@second", "missing edge": "@missing"}
    bars = [(race.first, race.second) for race in races]
    middles = {
        "x0": [_middle(first, origin) for first, _ in bars],
        "x1": [_middle(second, origin) for _, second in bars],
        "y0": [lanes.index(first.lane) for first, _ in bars],
        "y1": [lanes.index(second.lane) for _, second in bars],
    }
    source = ColumnDataSource(middles | facts)
    look = {"color": RACE_COLOUR, "legend_label": label, "visible": visible}
    line = chart.segment("x0", "y0", "x1", "y1", source=source, line_width=2.5, line_dash=[8, 5], **look)
    hover(chart, line, shown)
    for x, y in (("x0", "y0"), ("x1", "y1")):
        chart.scatter(x, y, source=source, size=8, **look)
    ends = _at_borders([(one.lane, one.end, two.lane, two.start) for one, two in bars], lanes, origin)
    missing = "the missing edge" if visible else label
    _arrows(chart, ends | facts, shown, look | {"legend_label": missing})


def hover(chart: Any, drawn: Any, shown: dict[str, str]) -> None:  # noqa: ANN401
    """Show these columns, by their names, of what is drawn. Bokeh escapes the values that it puts in for them."""
    rows = "".join(f"<div><b>{name}</b>: {column}</div>" for name, column in shown.items())
    text = f'<div style="width: 34em; overflow-wrap: anywhere">{rows}</div>'
    chart.add_tools(HoverTool(renderers=[drawn], tooltips=text, visible=False, line_policy="interp"))


def _arrows(
    chart: Any,  # noqa: ANN401
    columns: dict[str, list[Any]],
    shown: dict[str, str],
    look: dict[str, Any],
) -> None:
    """Lines with a head, which points up or down: they go from one lane to another."""
    columns["head"] = [
        "triangle" if y1 < y0 else "inverted_triangle" for y0, y1 in zip(columns["y0"], columns["y1"], strict=True)
    ]
    source = ColumnDataSource(columns)
    line = chart.segment("x0", "y0", "x1", "y1", source=source, line_width=1.5, **look)
    chart.scatter("x1", "y1", marker="head", source=source, size=9, **look)
    hover(chart, line, shown)


def _at_borders(pairs: list[tuple[str, float, str, float]], lanes: list[str], origin: float) -> dict[str, list[Any]]:
    """From the border of the first lane's bars to that of the second's, on the sides that face each other."""
    columns: dict[str, list[Any]] = {"x0": [], "y0": [], "x1": [], "y1": []}
    for first, start, second, end in pairs:
        rows = lanes.index(first), lanes.index(second)
        side = BAR_HEIGHT / 2 if rows[0] < rows[1] else -BAR_HEIGHT / 2
        values = (start - origin) * 1e3, rows[0] + side, (end - origin) * 1e3, rows[1] - side
        for name, value in zip(columns, values, strict=True):
            columns[name].append(value)
    return columns


def _memory(race: Joined) -> str:
    memory = list(dict.fromkeys(each.memory for each in race.races))
    more = len(memory) - MOST_LISTED
    return "; ".join(memory[:MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _operation(span: Span) -> str:
    return f"{span.name} on {span.lane}, {span.line}"


def _middle(span: Span, origin: float) -> float:
    return ((span.start + span.end) / 2 - origin) * 1e3
