"""What the simulator raises beside the errors that CUDA raises."""

from dataclasses import dataclass

from toolkit.simgpu.sites import Site


@dataclass(frozen=True)
class Party:
    """One of the two operations of a race. `start` and `end`: when, in ms of the virtual clock."""

    name: str
    lane: str  # a stream's name, or "host"
    site: Site
    writes: bool
    start: float = 0.0
    end: float = 0.0

    def __str__(self) -> str:
        return f"{'writes' if self.writes else 'reads'}: {self.name} on {self.lane} at {self.site}"


@dataclass(frozen=True)
class Race:
    """Two operations touch the same bytes, at least one writes, and nothing says which comes first.

    Attributes:
        buffer: what they share, in words.
        first, second: in the order in which the program issued them.
        missing_edge: what to add, in words.
        diagnosis: what was found to be in the wrong place, in words; "" if nothing was.
    """

    buffer: str
    first: Party
    second: Party
    missing_edge: str
    diagnosis: str = ""

    def __str__(self) -> str:
        return (
            f"RACE on {self.buffer}\n  1st {self.first}\n  2nd {self.second}\n"
            f"  nothing orders them. Missing edge: {self.missing_edge}"
            + (f"\n  Found: {self.diagnosis}" if self.diagnosis else "")
        )


class RaceError(BaseException):
    """Raised where the second operation of a race is issued. `.race` holds the facts.

    No Exception, so that a program which gets over errors cannot get over this one: a race is a mistake in
    the program.
    """

    def __init__(self, race: Race) -> None:
        super().__init__(str(race))
        self.race = race


class DeviceError(RuntimeError):
    """An operation failed on the device. As on CUDA it surfaces at a later synchronisation, and the device stays
    unusable (every later call raises it again) until `reset()`."""


class CaptureError(RuntimeError):
    """Something that CUDA does not permit while a stream is capturing a graph, or in replaying one."""
