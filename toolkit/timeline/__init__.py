"""Timelines: record what host and device did when, draw it, export it for Perfetto.

Drawing needs matplotlib and Bokeh, which an engine does not: `plot_timeline` and `export_html` are looked up on first
use.
"""

from typing import TYPE_CHECKING, Any

from toolkit.timeline.buffers import in_turns, owners
from toolkit.timeline.recorder import NO_SPAN, NO_TIMELINE, NoTimeline, Timeline
from toolkit.timeline.recording import Recording, steady
from toolkit.timeline.spans import Edge, FoundRace, Span
from toolkit.timeline.trace import export_chrome_trace

if TYPE_CHECKING:
    from toolkit.timeline.page import export_html
    from toolkit.timeline.plot import plot_timeline

__all__ = [
    "NO_SPAN",
    "NO_TIMELINE",
    "Edge",
    "FoundRace",
    "NoTimeline",
    "Recording",
    "Span",
    "Timeline",
    "export_chrome_trace",
    "export_html",
    "in_turns",
    "owners",
    "plot_timeline",
    "steady",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a function)
    if name == "plot_timeline":
        from toolkit.timeline.plot import plot_timeline

        return plot_timeline
    if name == "export_html":
        from toolkit.timeline.page import export_html

        return export_html
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
