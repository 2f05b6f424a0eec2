"""The host's waits for the device, asked for or not: what a program that wants to overlap has to avoid."""

from dataclasses import dataclass

from toolkit.simgpu.sites import Site


@dataclass(frozen=True)
class Synchronisation:
    """The host waited for the device.

    Attributes:
        what: the call, such as "item" or "Event.synchronize".
        site: the line that called it.
        hidden: it was not asked for by name, but is part of another operation (`.item()`, a blocking copy, ...).
        waited_ms: simulated time that the host lost by it.
    """

    what: str
    site: Site
    hidden: bool
    waited_ms: float
