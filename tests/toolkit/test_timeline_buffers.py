"""Which IO buffers a step goes through, and which batch has which of them when."""

from toolkit.timeline import Edge, Recording, Span, in_turns, owners

SPANS = (
    Span("prepare", "host", 0, 1, 4),
    Span("copy in", "h2d", 1, 2, 4),
    Span("forward", "compute", 2, 5, 4),
    Span("forward", "compute", 5, 8, 5),
    Span("load", "compute", 8, 9),
)


def test_steps_take_the_buffers_in_turns():
    assert [span.buffers for span in in_turns(Recording(SPANS), 2).spans] == [0, 0, 0, 1, None]
    assert [span.buffers for span in in_turns(Recording(SPANS), 3).spans] == [1, 1, 1, 2, None]


def test_what_the_simulator_knows_is_kept():
    recording = Recording((Span("forward", "compute", 0, 1, 4, buffers=1), *SPANS))
    assert in_turns(recording, 2) == recording


def test_each_buffers_have_a_lane():
    """The host's is kept, so that both pictures have one time axis; work without buffers and edges are left out."""
    recording = in_turns(Recording(SPANS, edges=(Edge("h2d", "compute", 2, 2),)), 2)
    seen = owners(recording)
    assert [(span.lane, span.name, span.start) for span in seen.spans] == [
        ("host", "prepare", 0),
        ("IO buffers 0", "copy in", 1),
        ("IO buffers 0", "forward", 2),
        ("IO buffers 1", "forward", 5),
    ]
    assert seen.edges == () and seen.window == recording.window
