"""Timelines: record what host and device did when, draw it, export it for Perfetto.

Drawing needs matplotlib, which an engine does not: `plot_timeline` is looked up on first use.
"""

from typing import TYPE_CHECKING, Any

from toolkit.timeline.recorder import NO_SPAN, NO_TIMELINE, NoTimeline, Timeline
from toolkit.timeline.recording import Recording, Span, steady
from toolkit.timeline.trace import export_chrome_trace

if TYPE_CHECKING:
    from toolkit.timeline.plot import plot_timeline

__all__ = [
    "NO_SPAN",
    "NO_TIMELINE",
    "NoTimeline",
    "Recording",
    "Span",
    "Timeline",
    "export_chrome_trace",
    "plot_timeline",
    "steady",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a function)
    if name == "plot_timeline":
        from toolkit.timeline.plot import plot_timeline

        return plot_timeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
