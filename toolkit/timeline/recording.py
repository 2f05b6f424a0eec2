"""What a timeline saw: spans of work on lanes, and the numbers that the course reads from them.

A recording does not care where its times come from. `Timeline` makes one from the host's clock and CUDA events; the
simulated GPU makes one from its virtual clock with `Recording(spans, clock="simulated", device=...)`.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.errors import UserError
from toolkit.files import write_whole
from toolkit.timeline.intervals import Interval, clip, idle_share, merge
from toolkit.timeline.spans import WAIT, Edge, FoundRace, Span

CLOCKS = ("host", "cuda", "simulated")
EDGE_STEPS = 2  # so many steps at either end are left out of a steady recording's numbers


@dataclass(frozen=True)
class Recording:
    """Spans in order of their start, and the clock and the device that they come from.

    Attributes:
        steady_window: where given, the stretch of time that the numbers are taken over; see `window`.
        edges, races: in the order in which the program came to them; only the simulated GPU tells of them.
    """

    spans: tuple[Span, ...]
    clock: str = "host"
    device: str = "cpu"
    steady_window: Interval | None = None
    edges: tuple[Edge, ...] = ()
    races: tuple[FoundRace, ...] = ()

    def __post_init__(self) -> None:
        if self.clock not in CLOCKS:
            raise ValueError(f"clock must be one of {CLOCKS}, got {self.clock!r}")
        object.__setattr__(self, "spans", tuple(sorted(self.spans, key=lambda span: (span.start, -span.end))))

    @property
    def window(self) -> Interval:
        """The stretch of time that the numbers are taken over, in seconds.

        It is `steady_window` if that was given, else from the first start to the last end of the spans that belong to
        a step. Loading, warm-up and graph capture are recorded without a step and so stay outside.
        """
        if self.steady_window is not None:
            return self.steady_window
        spans = [span for span in self.spans if span.step is not None] or list(self.spans)
        if not spans:
            return 0.0, 0.0
        return min(span.start for span in spans), max(span.end for span in spans)

    def steps(self) -> list[int]:
        """The steps with at least one span in the window, in order."""
        return sorted({span.step for span in clip_spans(self.spans, self.window) if span.step is not None})

    def step_window(self, first: int, last: int) -> Interval:
        """From the earliest start to the latest end of the steps `first` to `last`, both included.

        Raises:
            ValueError: no span belongs to these steps.
        """
        spans = [span for span in self.spans if span.step is not None and first <= span.step <= last]
        if not spans:
            raise ValueError(f"no span belongs to steps {first} to {last}")
        return min(span.start for span in spans), max(span.end for span in spans)

    def intervals(self, lane: str) -> list[Interval]:
        """(start, end) of every span of a lane, seconds."""
        return [(span.start, span.end) for span in self.spans if span.lane == lane]

    def idle_share(self, window: Interval | None = None, *, lane: str = "compute") -> float:
        """The share of the window (default: `self.window`) in which nothing ran on the compute lane, 0 to 1."""
        return idle_share(self.intervals(lane), window or self.window)

    def host_ms_per_step(self, window: Interval | None = None) -> float:
        """Milliseconds per step for which the host worked.

        Spans named "wait" are no work, also where they lie inside other spans; time in no host span is none either.

        Raises:
            ValueError: no span in the window belongs to a step.
        """
        spans = [span for span in clip_spans(self.spans, window or self.window) if span.lane == "host"]
        steps = {span.step for span in spans if span.step is not None}
        if not steps:
            raise ValueError("host_ms_per_step needs host spans that belong to a step; none in the window does")
        covered = merge((span.start, span.end) for span in spans)
        waiting = merge((span.start, span.end) for span in spans if span.name == WAIT)
        return (_length(covered) - _length(waiting)) * 1e3 / len(steps)

    def rows(self) -> list[dict[str, Any]]:
        """The spans as flat rows for `toolkit.recordings`: milliseconds from the window's start, 0.1 µs resolution."""
        origin = self.window[0]
        return [
            {
                "name": span.name,
                "lane": span.lane,
                "step": span.step,
                "start_ms": round((span.start - origin) * 1e3, 4),
                "end_ms": round((span.end - origin) * 1e3, 4),
                "clock": self.clock,
            }
            for span in self.spans
        ]

    @classmethod
    def from_rows(cls, rows: Iterable[dict[str, Any]], device: str) -> "Recording":
        """The recording that gave these rows, its window's start moved to 0 seconds; the window is the default one."""
        rows = list(rows)
        spans = tuple(
            Span(row["name"], row["lane"], row["start_ms"] / 1e3, row["end_ms"] / 1e3, row["step"]) for row in rows
        )
        return cls(spans, clock=rows[0]["clock"] if rows else "host", device=device)

    def save(self, path: Path | str) -> None:
        """Write everything as JSON, whole or not at all."""
        write_whole(path, json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path | str) -> "Recording":
        """Read what `save` wrote.

        Raises:
            UserError: the file is not there or is no saved timeline.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            window = data["steady_window"]
            return cls(
                tuple(Span(**span) for span in data["spans"]),
                clock=data["clock"],
                device=data["device"],
                steady_window=None if window is None else (window[0], window[1]),
                edges=tuple(Edge(**edge) for edge in data["edges"]),
                races=tuple(
                    FoundRace(**(race | {"first": Span(**race["first"]), "second": Span(**race["second"])}))
                    for race in data["races"]
                ),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read as a saved timeline: {error}") from None


def steady(recording: Recording) -> Recording:
    """The same recording, its numbers taken without the first and the last few steps."""
    steps = recording.steps()
    if len(steps) <= 2 * EDGE_STEPS + 1:
        return recording
    window = recording.step_window(steps[EDGE_STEPS], steps[-1 - EDGE_STEPS])
    return replace(recording, steady_window=window)


def clip_spans(spans: Iterable[Span], window: Interval) -> list[Span]:
    """The parts of the spans that lie inside the window."""
    clipped = []
    for span in spans:
        for start, end in clip([(span.start, span.end)], window):
            clipped.append(replace(span, start=start, end=end))
    return clipped


def _length(intervals: list[Interval]) -> float:
    return sum(end - start for start, end in intervals)
