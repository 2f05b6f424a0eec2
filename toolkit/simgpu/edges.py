"""Edges: what has been recorded, and who waited for it, each at its place on the virtual clock."""

from dataclasses import dataclass

from toolkit.simgpu.sites import Site


@dataclass(frozen=True)
class Edge:
    """An order that the program asked for: what `second` does from now on comes after what `first` did before.

    Attributes:
        first, second: the stream that recorded an event (or was waited for by itself), and who waits: a stream's name,
            or "host".
        first_ms: when `first` passes the event.
        second_ms: when `second` can go on. It would be the same time without the event, if `second` came later anyway.
        first_site, second_site: the lines that recorded and that wait.
    """

    first: str
    second: str
    first_ms: float
    second_ms: float
    first_site: Site
    second_site: Site
