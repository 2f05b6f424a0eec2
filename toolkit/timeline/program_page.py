"""The page of a program that ran on the simulated GPU: the whole run unless it is long, and first its first race."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.timeline.lanes import joined
from toolkit.timeline.page import WHOLE, export_html
from toolkit.timeline.shortened import shortened
from toolkit.timeline.simulated import recording_of

AROUND = 2.0  # so many times the race's length is seen before and behind it,
SHORTEST = 5e-5  # and so many seconds at least
MOST_OPERATIONS = 10_000  # on one page, some 5 MB


def write_program_page(simgpu: Any, path: Path | str, *, title: str, report: str) -> None:  # noqa: ANN401
    """Write the page of what has happened since the simulated GPU's `reset`.

    Args:
        simgpu: the module `toolkit.simgpu`.
        report: what is said of the races, shown below the chart.
    """
    recording, left_out = shortened(recording_of(simgpu), MOST_OPERATIONS)
    if recording.races:
        race, *_ = joined(recording)
        start, end = min(race.first.start, race.second.start), max(race.first.end, race.second.end)
        margin = max(AROUND * (end - start), SHORTEST)
        begin = recording.spans[0].start if left_out else 0.0
        recording = replace(recording, steady_window=(max(start - margin, begin), end + margin))
    export_html(recording, path, title=title, report=report, extent=left_out or WHOLE)
