"""Draws a timeline: a row for the host, one for each lane of the device, time from left to right.

Readable in greyscale and by the colour-blind (see looks.py), and what fits into a bar is written there. Idle time of
the compute lane is what the course is about, so it is drawn too: a hatched gap with its length.
"""

from math import ceil
from pathlib import Path

from matplotlib.ticker import MultipleLocator

from toolkit.files import write_whole
from toolkit.timeline.arrows import draw_edges, draw_races
from toolkit.timeline.bars import draw_bar, draw_gaps, legend_patch
from toolkit.timeline.intervals import Interval
from toolkit.timeline.lanes import edges_between, joined, lane_label, lanes_of
from toolkit.timeline.looks import Looks
from toolkit.timeline.picture import Picture, rendered
from toolkit.timeline.recording import Recording, clip_spans

MOST_STEPS = 6  # more than this cannot be read in one picture
WIDTH = 11  # inches, as all that follows
ENTRY, LETTER, ROW = 0.62, 0.064, 0.22  # of a legend: an entry without its text, a letter of it, a row's height


def plot_timeline(
    recording: Recording,
    path: Path | str | None = None,
    *,
    title: str = "",
    steps: tuple[int, int] | None = None,
    length_ms: float | None = None,
    edges: bool = False,
    races: bool = False,
) -> Picture:
    """Draw a recording; save it to `path` (PNG, SVG or PDF, by its ending) if one is given.

    Args:
        title: what was recorded; the idle share, the device and a simulated clock are added by themselves.
        steps: first and last step to show, and whose races. Default: the six in the middle, or all if there are no
            more.
        length_ms: what the axis shows, from the start of these steps. Default: to their end. Pictures that are to be
            compared get the same length.
        edges: draw an arrow for each event, from where it was recorded to who waits for it.
        races: join each two operations that race by a dashed red line, and draw the edge that is missing.

    Only the simulated GPU tells of edges and races. The idle share in the title is that of the whole recording's
    window, not only of the steps shown.
    """
    shown, note = shown_window(recording, steps)
    if length_ms is not None:
        shown = shown[0], shown[0] + length_ms / 1e3
    spans = clip_spans(recording.spans, shown)
    lanes = lanes_of(recording)
    height = 1.25 + 0.62 * len(lanes)
    figure = Picture(width=WIDTH, height=height)
    axes = figure.add_subplot()
    looks = Looks(recording.spans)
    axes.set_xlim(0, (shown[1] - shown[0]) * 1e3)
    axes.set_ylim(len(lanes) - 0.5, -0.5)
    axes.set_yticks(range(len(lanes)), [lane_label(lane) for lane in lanes])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("milliseconds" + note)
    if length_ms is not None:
        axes.xaxis.set_major_locator(MultipleLocator(5))  # the same marks in all pictures of that length
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(full_title(recording, title), loc="left", fontsize=11)
    per_pixel = (shown[1] - shown[0]) * 1e3 / 1000  # about; what it is exactly is known once the legend is there
    lines = draw_edges(axes, edges_between(recording), lanes, shown) if edges else []
    found = [race for race in joined(recording) if steps is None or race.is_within(*steps)] if races else []
    lines += draw_races(axes, found, lanes, shown, per_pixel)
    handles = [*(legend_patch(*entry) for entry in looks.legend(spans).items()), *lines]
    rows = ceil(sum(ENTRY + LETTER * len(str(handle.get_label())) for handle in handles) / WIDTH) or 1
    figure.set_figheight(height + ROW * (rows - 1))
    figure.legend(
        handles=handles,
        ncols=ceil(len(handles) / rows) or 1,
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
        draw_bar(axes, span, lanes.index(span.lane), shown[0], looks.of(span), per_pixel, labelled=not covered)
    if "compute" in lanes:
        draw_gaps(axes, recording.intervals("compute"), lanes.index("compute"), shown, per_pixel)
    if path is not None:
        kind = Path(path).suffix.removeprefix(".") or "png"
        write_whole(path, rendered(figure, kind))
    return figure


def shown_window(recording: Recording, steps: tuple[int, int] | None) -> tuple[Interval, str]:
    """What to show, in seconds, and what to say of it on the axis."""
    known = recording.steps()
    if steps is None:
        if len(known) <= MOST_STEPS:
            return recording.window, ""
        first = (len(known) - MOST_STEPS) // 2
        steps = known[first], known[first + MOST_STEPS - 1]
    return recording.step_window(*steps), f" (steps {steps[0]} to {steps[1]} of {known[0]} to {known[-1]})"


def full_title(recording: Recording, title: str) -> str:
    """What was recorded, how idle the device was, which device it was, and by which clock."""
    parts = [title] if title else []
    first, last = recording.window
    if first < last and any(span.lane == "compute" for span in recording.spans):
        parts.append(f"device idle {recording.idle_share() * 100:.1f} %")
    parts.append(recording.device)
    if recording.clock == "simulated":
        parts.append("simulated clock")
    return "  ·  ".join(parts)
