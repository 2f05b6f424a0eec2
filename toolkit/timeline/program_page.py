"""The page of a program that ran on the simulated GPU: the whole run, and first the part with its first race."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.timeline.lanes import joined
from toolkit.timeline.page import export_html
from toolkit.timeline.simulated import recording_of

AROUND = 2.0  # so many times the race's length is seen before and behind it,
SHORTEST = 5e-5  # and so many seconds at least


def write_program_page(simgpu: Any, path: Path | str, *, title: str, report: str) -> None:  # noqa: ANN401
    """Write the page of everything since the simulated GPU's `reset`.

    Args:
        simgpu: the module `toolkit.simgpu`.
        report: what is said of the races, shown below the chart.
    """
    recording = recording_of(simgpu)
    if recording.races:
        race, *_ = joined(recording)
        start, end = min(race.first.start, race.second.start), max(race.first.end, race.second.end)
        margin = max(AROUND * (end - start), SHORTEST)
        recording = replace(recording, steady_window=(max(start - margin, 0.0), end + margin))
    export_html(recording, path, title=title, report=report)
