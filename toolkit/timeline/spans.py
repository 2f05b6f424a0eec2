"""What a timeline is made of, as plain data: spans of work, edges between them, and races.

Only the simulated GPU tells of buffers, lines, edges and races. A span recorded on a real one has a name, times and a
step.
"""

from dataclasses import dataclass

LANES = ("host", "h2d", "compute", "d2h")  # from top to bottom in a picture; "h2d": copies from host to device
WAIT = "wait"  # a host span of this name is time in which the host waited for the device, not work
CLOSE = 1e-7  # seconds; times on a virtual clock that differ by less are the same, rounded differently


@dataclass(frozen=True)
class Span:
    """One stretch of work on one lane.

    Attributes:
        start, end: seconds of one common clock.
        step: None outside any step.
        buffers: which IO buffers it works on, or works for, numbered from 0; None if that is not known.
        memory: what it reads and writes, in words; "" if that is not known.
        line: where the program launched it; "" if that is not known.
    """

    name: str
    lane: str
    start: float
    end: float
    step: int | None = None
    buffers: int | None = None
    memory: str = ""
    line: str = ""


@dataclass(frozen=True)
class Edge:
    """An event, or a stream, that was waited for.

    Attributes:
        first, second: the lane on which it was recorded, and the one that waits.
        start, end: seconds: when `first` passes it, and when `second` goes on.
        recorded, waited: the lines that did so; "" if that is not known.
    """

    first: str
    second: str
    start: float
    end: float
    recorded: str = ""
    waited: str = ""


@dataclass(frozen=True)
class FoundRace:
    """Two operations on the same memory that nothing orders.

    Attributes:
        first, second: the operations, in the order in which the program issued them. What the host does at once has no
            length.
        memory: what both touch, in words.
        missing: the edge to add, in words.
        report: all that the race detector says.
    """

    first: Span
    second: Span
    memory: str
    missing: str
    report: str
