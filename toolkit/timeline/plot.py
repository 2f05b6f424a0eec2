"""Draws a timeline: a row for the host, one for each lane of the device, time from left to right.

Readable in greyscale and by the colour-blind (see looks.py), and what fits into a bar is written there. Idle time of
the compute lane is what the course is about, so it is drawn too: a white gap with its length.
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MultipleLocator

from toolkit.files import write_whole
from toolkit.timeline.intervals import Interval, clip, merge
from toolkit.timeline.looks import DARK, choose_looks, legend_patch
from toolkit.timeline.picture import Picture, rendered
from toolkit.timeline.recording import LANES, Recording, Span, clip_spans

BAR_HEIGHT = 0.62
MOST_STEPS = 6  # more than this cannot be read in one picture
FEWEST_PIXELS = 1.5  # a shorter bar is drawn this wide, so that it does not vanish


def plot_timeline(
    recording: Recording,
    path: Path | str | None = None,
    *,
    title: str = "",
    steps: tuple[int, int] | None = None,
    length_ms: float | None = None,
) -> Picture:
    """Draw a recording; save it to `path` (PNG, SVG or PDF, by its ending) if one is given.

    Args:
        title: what was recorded; the idle share, the device and a simulated clock are added by themselves.
        steps: first and last step to show. Default: the six in the middle, or all if there are no more.
        length_ms: what the axis shows, from the start of these steps. Default: to their end. Pictures that are to be
            compared get the same length.

    The idle share in the title is that of the whole recording's window, not only of the steps shown.
    """
    shown, note = _shown_window(recording, steps)
    if length_ms is not None:
        shown = shown[0], shown[0] + length_ms / 1e3
    spans = clip_spans(recording.spans, shown)
    lanes = sorted({span.lane for span in recording.spans}, key=lambda lane: (_place(lane), lane))
    figure = Picture(width=11, height=1.25 + 0.62 * len(lanes))
    axes = figure.add_subplot()
    looks = choose_looks(recording.spans)
    axes.set_xlim(0, (shown[1] - shown[0]) * 1e3)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_yticks(range(len(lanes)), [_lane_label(lane) for lane in lanes])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("milliseconds" + note)
    if length_ms is not None:
        axes.xaxis.set_major_locator(MultipleLocator(5))  # the same marks in all pictures of that length
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(_title(recording, title), loc="left", fontsize=11)
    present = [name for name in looks if any(span.name == name for span in spans)]
    figure.legend(
        handles=[legend_patch(name, looks[name]) for name in present],
        ncols=max(len(present), 1),
        loc="outside lower left",
        frameon=False,
        fontsize=9,
        handlelength=2.2,
        handleheight=1.2,
    )
    figure.draw_without_rendering()  # fixes the layout: from here on it is known how many pixels a millisecond has
    per_pixel = (shown[1] - shown[0]) * 1e3 / max(axes.get_window_extent().width, 1)
    for number, span in enumerate(spans):
        middle = (span.start + span.end) / 2
        # A span inside another one comes later and is drawn over it: no label where it would cover the label.
        covered = any(other.lane == span.lane and other.start <= middle <= other.end for other in spans[number + 1 :])
        _draw_bar(axes, span, lanes.index(span.lane), shown[0], looks[span.name], per_pixel, labelled=not covered)
    if "compute" in lanes:
        _draw_gaps(axes, recording.intervals("compute"), lanes.index("compute"), shown, per_pixel)
    if path is not None:
        kind = Path(path).suffix.removeprefix(".") or "png"
        write_whole(path, rendered(figure, kind))
    return figure


def _shown_window(recording: Recording, steps: tuple[int, int] | None) -> tuple[Interval, str]:
    """What to show, in seconds, and what to say of it on the axis."""
    known = recording.steps()
    if steps is None:
        if len(known) <= MOST_STEPS:
            return recording.window, ""
        first = (len(known) - MOST_STEPS) // 2
        steps = known[first], known[first + MOST_STEPS - 1]
    return recording.step_window(*steps), f" (steps {steps[0]} to {steps[1]} of {known[0]} to {known[-1]})"


def _title(recording: Recording, title: str) -> str:
    parts = [title] if title else []
    first, last = recording.window
    if first < last and any(span.lane == "compute" for span in recording.spans):
        parts.append(f"device idle {recording.idle_share() * 100:.1f} %")
    parts.append(recording.device)
    if recording.clock == "simulated":
        parts.append("simulated clock")
    return "  ·  ".join(parts)


def _lane_label(lane: str) -> str:
    return {"host": "host", "h2d": "copies in\n(h2d)", "compute": "compute", "d2h": "copies out\n(d2h)"}.get(lane, lane)


def _place(lane: str) -> int:
    return LANES.index(lane) if lane in LANES else len(LANES)


def _draw_bar(
    axes: Axes, span: Span, row: int, origin: float, look: tuple[str, str], per_pixel: float, *, labelled: bool
) -> None:
    start, width = (span.start - origin) * 1e3, (span.end - span.start) * 1e3
    colour, hatch = look
    bar = Rectangle(
        (start, row - BAR_HEIGHT / 2),
        max(width, FEWEST_PIXELS * per_pixel),
        BAR_HEIGHT,
        facecolor=colour,
        hatch=hatch,
        edgecolor="#333333",
        linewidth=0.6,
        gid=f"bar {span.name}",
    )
    axes.add_patch(bar)
    step = "" if span.step is None else str(span.step)
    for text in (f"{span.name} {step}".strip(), step):
        if labelled and text and _fits(text, width, per_pixel):
            # Behind a hatch, letters need a plain ground.
            ground = {"facecolor": colour, "edgecolor": "none", "pad": 1.0} if hatch else None
            ink = "white" if colour in DARK else "black"
            middle = start + width / 2
            axes.text(middle, row, text, ha="center", va="center", fontsize=8.5, color=ink, bbox=ground, clip_on=True)
            break


def _draw_gaps(axes: Axes, busy: list[Interval], row: int, shown: Interval, per_pixel: float) -> None:
    """Write the length of every gap of the compute lane that has room for it."""
    edge = shown[0]
    for start, end in [*merge(clip(busy, shown)), (shown[1], shown[1])]:
        gap, middle = (start - edge) * 1e3, ((start + edge) / 2 - shown[0]) * 1e3
        texts = [f"idle {gap:.1f} ms", f"idle\n{gap:.1f} ms", "idle"]
        text = next((text for text in texts if _fits(text, gap, per_pixel)), None)
        if text:
            note = axes.text(middle, row, text, ha="center", va="center", linespacing=1.0)
            note.set(fontsize=8.5, style="italic", color="#333333")
            note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
        edge = end


def _fits(text: str, width: float, per_pixel: float) -> bool:
    pixels_per_letter = 8.0  # of 8.5 point text at 110 dots per inch, a little room included
    return max(map(len, text.split("\n"))) * pixels_per_letter * per_pixel <= width
