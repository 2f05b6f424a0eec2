"""A step's figures in the steady state, from the start of one forward to the start of a later one.

With two batches in flight, steps overlap. Only from forward to forward do they follow one another, so that nothing is
counted twice, the gaps between steps count, and nothing is left out at the edges.
"""

from dataclasses import dataclass, replace
from statistics import median

from toolkit.timeline.recording import Recording
from toolkit.timeline.spans import WAIT


@dataclass(frozen=True)
class PerStep:
    """Averages over the steps; all times in milliseconds.

    Attributes:
        ms: from the start of a forward to the start of the next.
        device_ms: a forward's time on the device, the median.
        host_ms: the host's work, its waiting for the device left out.
        idle_share: share of the time in which no forward was on the device, 0 to 1.
    """

    ms: float
    device_ms: float
    host_ms: float
    idle_share: float


def between_forwards(recording: Recording) -> PerStep:
    """The figures of all forwards that lie in the recording's window; it takes at least two of them."""
    first, last = recording.window
    forwards = [(start, end) for start, end in recording.intervals("compute") if first <= start and end <= last]
    window = forwards[0][0], forwards[-1][0]
    ms = (window[1] - window[0]) * 1e3 / (len(forwards) - 1)
    working = replace(recording, spans=tuple(span for span in recording.spans if span.name != WAIT))
    return PerStep(
        ms=ms,
        device_ms=median(end - start for start, end in forwards) * 1e3,
        host_ms=(1 - working.idle_share(window, lane="host")) * ms,
        idle_share=recording.idle_share(window),
    )
