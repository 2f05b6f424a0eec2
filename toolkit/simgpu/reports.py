"""The races of a whole program in words: each once, however often it happened, and by the edge that they miss."""

from collections import Counter
from collections.abc import Mapping, Sequence

from toolkit.simgpu.errors import Race
from toolkit.simgpu.sites import Site


def describe(races: Sequence[Race], streams: Mapping[str, Site]) -> str:
    """All reports, in the order found, and a last line that counts them. "" without races.

    Args:
        streams: where the streams without a name of their own were made.

    One missing edge shows in all that it should have ordered. The first such race is told in full, the others in short.
    """
    if not races:
        return ""
    times = Counter(map(_kind, races))
    edges: dict[str, dict[tuple, Race]] = {}
    for race in races:
        edges.setdefault(race.missing_edge, {}).setdefault(_kind(race), race)
    reports = []
    for kinds in edges.values():
        (first, race), *others = kinds.items()
        report = [f"{race}\n  seen {times[first]} times" if times[first] > 1 else str(race)]
        if others:
            report.append("  the same edge is missing between:")
        report += [f"    {_in_short(each)}{_times(times[kind])}" for kind, each in others]
        reports.append("\n".join(report))
    lanes = {party.lane for race in races for party in (race.first, race.second)}
    made = [f"{name} was made at {site.first_line}" for name, site in streams.items() if name in lanes]
    if made:
        reports.append("\n".join(made))
    return "\n\n".join([*reports, f"simgpu: {_count(len(times), 'race')}, {_count(len(edges), 'missing edge')}"])


def _in_short(race: Race) -> str:
    first, second = ((each.name, each.site.short) for each in (race.first, race.second))
    return f"{' at '.join(first)} and {' at '.join(second)}"


def _times(n: int) -> str:
    return f", {n} times" if n > 1 else ""


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n > 1 else ''}"


def _kind(race: Race) -> tuple:
    """What makes two races the same mistake: the same two lines, doing the same."""
    return tuple((each.name, each.site, each.writes) for each in (race.first, race.second))
