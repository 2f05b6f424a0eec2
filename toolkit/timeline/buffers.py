"""Which IO buffers a step goes through, where a recording does not say it; and who has which of them when."""

from dataclasses import replace

from toolkit.timeline.recording import Recording


def in_turns(recording: Recording, count: int) -> Recording:
    """The recording of an engine that takes its IO buffers in turns: step n goes through number n % count.

    The simulated GPU knows which they are, and then it is believed.
    """
    if any(span.buffers is not None for span in recording.spans):
        return recording
    spans = tuple(span if span.step is None else replace(span, buffers=span.step % count) for span in recording.spans)
    return replace(recording, spans=spans)


def owners(recording: Recording) -> Recording:
    """The host as it is, and below it a lane for each IO buffers: which batch has them, and what is done with it."""
    spans = tuple(
        replace(span, lane=span.lane if span.lane == "host" else f"IO buffers {span.buffers}", buffers=None)
        for span in recording.spans
        if span.lane == "host" or span.buffers is not None
    )
    return replace(recording, spans=spans, edges=(), races=())
