"""Bars in a picture: one for each span, with what fits written on it, and the gaps of the compute lane."""

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Rectangle

from toolkit.timeline.intervals import Interval, clip, merge
from toolkit.timeline.looks import DARK, IDLE, Look
from toolkit.timeline.spans import Span

BAR_HEIGHT = 0.62
FEWEST_PIXELS = 2.0  # a shorter bar is drawn this wide, so that it does not vanish


def draw_bar(axes: Axes, span: Span, row: int, origin: float, look: Look, per_pixel: float, *, labelled: bool) -> None:
    """Draw a span.

    Args:
        row: its lane's place.
        origin: the time, in seconds, at which the axis begins.
        per_pixel: milliseconds.
    """
    start, width = (span.start - origin) * 1e3, (span.end - span.start) * 1e3
    bar = Rectangle(
        (start, row - BAR_HEIGHT / 2),
        max(width, FEWEST_PIXELS * per_pixel),
        BAR_HEIGHT,
        facecolor=look.colour,
        hatch=look.hatch,
        edgecolor="#333333",
        linewidth=0.6,
        gid=f"bar {span.name}",
    )
    axes.add_patch(bar)
    step = "" if span.step is None else str(span.step)
    for text in (f"{span.name} {step}".strip(), step):
        if labelled and text and _fits(text, width, per_pixel):
            # Behind a hatch, letters need a plain ground.
            ground = {"facecolor": look.colour, "edgecolor": "none", "pad": 1.0} if look.hatch else None
            ink = "white" if look.colour in DARK else "black"
            middle = start + width / 2
            axes.text(middle, row, text, ha="center", va="center", fontsize=8.5, color=ink, bbox=ground, clip_on=True)
            break


def draw_gaps(axes: Axes, busy: list[Interval], row: int, shown: Interval, per_pixel: float) -> None:
    """Hatch every gap of the compute lane, and write its length where there is room for it."""
    edge = shown[0]
    for start, end in [*merge(clip(busy, shown)), (shown[1], shown[1])]:
        left, gap = (edge - shown[0]) * 1e3, (start - edge) * 1e3
        if gap > FEWEST_PIXELS * per_pixel:
            idle = Rectangle((left, row - BAR_HEIGHT / 2), gap, BAR_HEIGHT, gid="idle", zorder=0.9)
            idle.set(facecolor=IDLE.colour, hatch=IDLE.hatch, edgecolor="#C4C4C4", linewidth=0.0)
            axes.add_patch(idle)
        texts = [f"idle {gap:.1f} ms", f"idle\n{gap:.1f} ms", "idle"]
        text = next((text for text in texts if _fits(text, gap, per_pixel)), None)
        if text:
            note = axes.text(left + gap / 2, row, text, ha="center", va="center", linespacing=1.0)
            note.set(fontsize=8.5, style="italic", color="#333333")
            note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        edge = end


def legend_patch(label: str, look: Look) -> Patch:
    """The legend's entry for a look."""
    return Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="#333333", linewidth=0.6, label=label)


def _fits(text: str, width: float, per_pixel: float) -> bool:
    pixels_per_letter = 8.0  # of 8.5 point text at 110 dots per inch, a little room included
    return max(map(len, text.split("\n"))) * pixels_per_letter * per_pixel <= width
