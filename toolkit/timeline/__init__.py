"""Timelines: record what host and device did when, draw it, export it for Perfetto."""

from toolkit.timeline.plot import plot_timeline
from toolkit.timeline.recorder import NO_SPAN, NO_TIMELINE, NoTimeline, Timeline
from toolkit.timeline.recording import Recording, Span, steady
from toolkit.timeline.trace import export_chrome_trace

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
