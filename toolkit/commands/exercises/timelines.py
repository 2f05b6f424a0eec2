"""The run that made a check fail, as a picture and a page: where a race was found, or where an overlap is missing.

The run is looked for where the check left it: in the variables of the functions that the error came through, or else
on the simulated GPU, which keeps its last run. Only chapters 3 to 9 have checks of either kind.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from toolkit.commands.exercises.order import essence
from toolkit.timeline import Recording
from toolkit.timeline.lanes import Joined, joined
from toolkit.timeline.recording import clip_spans

FOLDER = "figures/local/check"  # of the repository; git ignores it
RACE = "RACE on "  # how a report of the race detector begins
AROUND = 0.5  # a run without steps is shown for so many times the race's length before and behind it,
SHORTEST = 1e-5  # and for so many seconds at least


def write_timeline(folder: Path, error: BaseException, message: str, says: str, about_overlap: bool) -> str:
    """Write timeline.png and timeline.html into the folder, if they would show something.

    Args:
        error: what the check failed with.
        message: what it says.
        says: what the check is about.
        about_overlap: whether that is an overlap (the marker `overlap`).

    Returns:
        the line that tells of them; "" if the check is about something else.
    """
    found = _run_with_race(error, message) if RACE in message else None
    about_race = found is not None
    if found is None and about_overlap:
        found = next((run for run in _runs(error) if any(span.lane != "host" for span in run.spans)), None)
    if found is None:
        return ""
    try:
        _draw(found, folder, "\n".join([says, "", *essence(message)]), about_race=about_race)
    except Exception as reason:  # whatever keeps it from being drawn, the check's result is worth more
        return f"its timeline could not be drawn: {type(reason).__name__}: {reason}"
    return f"see it: {FOLDER}/{folder.name}/timeline.html in a browser, or timeline.png beside it"


def _runs(error: BaseException) -> Iterator[Recording]:
    """The recordings at hand, those nearest to the error first."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    for frame in reversed(frames):
        for value in frame.f_locals.values():
            recording = getattr(value, "recording", value)
            if isinstance(recording, Recording):
                yield recording
    if (simgpu := sys.modules.get("toolkit.simgpu")) is not None:
        from toolkit.timeline.simulated import recording_of

        yield recording_of(simgpu)


def _run_with_race(error: BaseException, message: str) -> Recording | None:
    """The run in which the race was found that the message reports; that race is its first."""
    for run in _runs(error):
        for race in run.races:
            if _one_line(race.report) in _one_line(message):  # pytest indents the lines of a message
                return replace(run, races=(race, *(each for each in run.races if each is not race)))
    return None


def _draw(run: Recording, folder: Path, report: str, *, about_race: bool) -> None:
    from toolkit.timeline import export_html, plot_timeline

    title, steps, pictured = "An overlap is missing", None, run
    if about_race:
        reported, *_ = joined(run)
        first, second = run.races[0].first, run.races[0].second
        title = f"Nothing orders {first.name} on {first.lane} before {second.name} on {second.lane}"
        run, steps = _in_view(run, reported)
        pictured = replace(run, races=tuple(reported.races))
    plot_timeline(pictured, folder / "timeline.png", title=title, steps=steps, edges=True, races=True)
    export_html(run, folder / "timeline.html", title=title, steps=steps, report=report)


def _in_view(run: Recording, race: Joined) -> tuple[Recording, tuple[int, int] | None]:
    """The steps that show the race, and one more where there is one; a run without steps is cut to what shows it."""
    steps = [bar.step for bar in (race.first, race.second) if bar.step is not None]
    if len(steps) == 2:
        known = run.steps()
        return run, (min(steps), max(steps) + (max(steps) + 1 in known))
    start, end = min(race.first.start, race.second.start), max(race.first.end, race.second.end)
    margin = max(AROUND * (end - start), SHORTEST)
    cut = clip_spans(run.spans, (start - margin, end + margin))
    return replace(run, spans=tuple(replace(span, step=None) for span in cut)), None


def _one_line(text: str) -> str:
    return " ".join(text.split())
