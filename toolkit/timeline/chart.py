"""The chart of a timeline's page: lanes and bars as in the picture, to zoom into and to hover over."""

from typing import Any

from bokeh.models import ColumnDataSource, Range1d, WheelZoomTool
from bokeh.plotting import figure

from toolkit.timeline.bars import BAR_HEIGHT, FEWEST_PIXELS
from toolkit.timeline.chart_lines import add_edges, add_races, hover
from toolkit.timeline.intervals import merge
from toolkit.timeline.lanes import edges_between, joined, lane_label, lanes_of
from toolkit.timeline.looks import DARK, IDLE, Looks
from toolkit.timeline.plot import shown_window
from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import Span

TEXT_SHARE = 0.1  # a bar as long as this share of the first view has room for its name
NUMBER_SHARE = 0.02  # and one of this length for its step
BUTTONS = ("xzoom_in", "xzoom_out", "pan_left", "pan_right")  # for a keyboard, and for a screen that is touched
LEAST_WIDTH = 640  # pixels, what the legend needs; on a narrower screen the page scrolls the chart


def make_chart(recording: Recording, steps: tuple[int, int] | None = None) -> Any:  # noqa: ANN401 (a bokeh figure)
    """A chart of everything in the recording; `steps` (as for `plot_timeline`) are what is seen first.

    The first race is shown, others once they are asked for: in a run without any order there are hundreds.
    """
    shown, _ = shown_window(recording, steps)
    origin, lanes = shown[0], lanes_of(recording)
    first = min((span.start for span in recording.spans), default=origin)
    last = max((span.end for span in recording.spans), default=shown[1])
    margin = 0.02 * (last - first)
    bounds = (first - margin - origin) * 1e3, (last + margin - origin) * 1e3
    wheel = WheelZoomTool(dimensions="width")
    chart: Any = figure(
        x_range=Range1d(start=0, end=(shown[1] - origin) * 1e3, bounds=bounds),
        y_range=Range1d(start=len(lanes) - 0.5, end=-0.5),
        height=150 + 85 * len(lanes),
        sizing_mode="stretch_width",
        min_width=LEAST_WIDTH,
        tools=[wheel, "xpan", "xbox_zoom", *BUTTONS, "reset", "save"],
        active_scroll=wheel,
        active_drag="xpan",
        x_axis_label="milliseconds",
    )
    chart.toolbar.logo = None  # it is a link
    chart.yaxis.ticker = list(range(len(lanes)))
    chart.yaxis.major_label_overrides = {row: lane_label(lane) for row, lane in enumerate(lanes)}
    chart.ygrid.visible = False
    if "compute" in lanes:
        _add_gaps(chart, recording, lanes.index("compute"), origin)
    _add_bars(chart, recording, lanes, origin, shown[1] - shown[0])
    add_edges(chart, edges_between(recording), lanes, origin)
    races = joined(recording)
    add_races(chart, races[:1], "race", lanes, origin)
    add_races(chart, races[1:], f"other races ({len(races) - 1})", lanes, origin, visible=False)
    if chart.legend:
        legend = chart.legend[0]
        legend.update(orientation="horizontal", click_policy="hide", ncols=6)
        legend.items = sorted(legend.items, key=lambda item: item.label.value)
        chart.add_layout(legend, "below")
    return chart


def _add_gaps(chart: Any, recording: Recording, row: int, origin: float) -> None:  # noqa: ANN401
    busy = merge(recording.intervals("compute"))
    gaps = [(before[1], after[0]) for before, after in zip(busy, busy[1:], strict=False)]
    if not gaps:
        return
    left, right = ([(gap[side] - origin) * 1e3 for gap in gaps] for side in (0, 1))
    lengths = [f"{(end - start) * 1e3:.3f} ms" for start, end in gaps]
    source = ColumnDataSource({"left": left, "right": right, "length": lengths})
    look: dict[str, Any] = {
        "fill_color": IDLE.colour,
        "line_color": None,
        "hatch_pattern": "/",
        "hatch_color": "#C4C4C4",
    }
    look |= {"y": row, "left": "left", "right": "right", "height": BAR_HEIGHT}
    drawn = chart.hbar(source=source, legend_label="device idle", **look)
    hover(chart, drawn, {"device idle": "@length"})


def _add_bars(chart: Any, recording: Recording, lanes: list[str], origin: float, view: float) -> None:  # noqa: ANN401
    """The bars of each group, the longer ones first: shorter ones lie over them."""
    looks = Looks(recording.spans)
    groups: dict[str, list[Span]] = {}
    for span in sorted(recording.spans, key=lambda span: span.start - span.end):
        groups.setdefault(looks.group(span), []).append(span)
    for group, spans in groups.items():
        columns = {
            "row": [lanes.index(span.lane) for span in spans],
            "left": [(span.start - origin) * 1e3 for span in spans],
            "right": [(span.end - origin) * 1e3 for span in spans],
            "middle": [((span.start + span.end) / 2 - origin) * 1e3 for span in spans],
            "colour": [looks.of(span).colour for span in spans],
            "hatch": [looks.of(span).hatch[:1] or " " for span in spans],
            "border": [FEWEST_PIXELS if _is_thin(span, view) else 1 for span in spans],
            "border_colour": [looks.of(span).colour if _is_thin(span, view) else "#333333" for span in spans],
            "text": [_written_on(span, view) for span in spans],
            "ink": ["white" if looks.of(span).colour in DARK else "black" for span in spans],
            "what": [span.name if span.step is None else f"{span.name}, step {span.step}" for span in spans],
            "where": [span.lane for span in spans],
            "when": [_when(span, origin) for span in spans],
            "buffers": ["-" if span.buffers is None else str(span.buffers) for span in spans],
            "memory": [span.memory or "-" for span in spans],
            "line": [span.line or "-" for span in spans],
        }
        source = ColumnDataSource(columns)
        look: dict[str, Any] = {"fill_color": "colour", "line_color": "border_colour", "line_width": "border"}
        look |= {"hatch_pattern": "hatch", "hatch_color": "#888888", "hatch_weight": 0.6, "hatch_scale": 7.0}
        look |= {"y": "row", "left": "left", "right": "right", "height": BAR_HEIGHT}
        drawn = chart.hbar(source=source, legend_label=group, **look)
        place = {"text_align": "center", "text_baseline": "middle", "text_font_size": "11px", "text_color": "ink"}
        chart.text("middle", "row", "text", source=source, legend_label=group, **place)
        shown = {"operation": "@what", "on": "@where", "when": "@when", "IO buffers": "@buffers"}
        hover(chart, drawn, shown | {"memory": "@memory", "line": "@line"})


def _written_on(span: Span, view: float) -> str:
    length = span.end - span.start
    if length > TEXT_SHARE * view:
        return span.name if span.step is None else f"{span.name} {span.step}"
    return "" if span.step is None or _is_thin(span, view) else str(span.step)


def _is_thin(span: Span, view: float) -> bool:
    return span.end - span.start < NUMBER_SHARE * view


def _when(span: Span, origin: float) -> str:
    start, end = (span.start - origin) * 1e3, (span.end - origin) * 1e3
    return f"{start:.3f} to {end:.3f} ms, {end - start:.3f} ms long"
