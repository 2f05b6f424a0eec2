"""A long run cut to what a page can show: one stretch of it, since gaps within would look like an idle device."""

from bisect import bisect_left
from dataclasses import replace

from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import CLOSE, FoundRace


def shortened(recording: Recording, most: int) -> tuple[Recording, str]:
    """At most so many operations of it: those around the first race that fits well, else the last ones.

    Returns:
        the recording, with the edges and races of that stretch only; what was left out, in words, "" if nothing was.
    """
    spans = recording.spans
    if len(spans) <= most:
        return recording, ""
    starts = [span.start for span in spans]
    first, around = len(spans) - most, "the last ones"
    for race in recording.races:
        places = sorted(bisect_left(starts, each.start - CLOSE) for each in (race.first, race.second))
        if places[1] - places[0] <= most // 2:
            first = min(max(sum(places) // 2 - most // 2, 0), len(spans) - most)
            around = "those around a race"
            break
    kept = spans[first : first + most]
    window = kept[0].start, max(span.end for span in kept)
    short = replace(
        recording,
        spans=kept,
        edges=tuple(edge for edge in recording.edges if window[0] <= edge.start and edge.end <= window[1]),
        races=tuple(race for race in recording.races if _is_within(race, *window)),
    )
    lost = len(recording.races) - len(short.races)
    races = f" and {lost} of {len(recording.races)} races" if lost else ""
    return short, (
        f"The run is too long for a page: of {len(spans):,} operations {most:,} are drawn, {around}. "
        f"{len(spans) - most:,} operations{races} are left out."
    )


def _is_within(race: FoundRace, start: float, end: float) -> bool:
    return all(start - CLOSE <= each.start and each.end <= end + CLOSE for each in (race.first, race.second))
