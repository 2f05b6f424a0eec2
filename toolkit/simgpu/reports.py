"""The races of a whole program in words: each once, however often it happened."""

from collections import Counter
from collections.abc import Sequence

from toolkit.simgpu.errors import Race


def describe(races: Sequence[Race]) -> str:
    """All reports, in the order found, and a last line that counts them. "" without races."""
    if not races:
        return ""
    times = Counter(map(_kind, races))
    kinds: dict[tuple, Race] = {}
    for race in races:
        kinds.setdefault(_kind(race), race)
    reports = [f"{race}\n  seen {times[kind]} times" if times[kind] > 1 else str(race) for kind, race in kinds.items()]
    count = f"{len(kinds)} {'races' if len(kinds) > 1 else 'race'}"
    return "\n\n".join([*reports, f"simgpu: {count} found"])


def _kind(race: Race) -> tuple:
    """What makes two races the same mistake: the same two lines, doing the same."""
    return tuple((each.name, each.site, each.writes) for each in (race.first, race.second))
