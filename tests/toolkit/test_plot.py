"""The picture of a timeline: what is drawn, and what is written on it."""

from xml.etree import ElementTree

import pytest
from matplotlib.patches import Rectangle

from toolkit.timeline import Recording, Span, plot_timeline


def steps(n: int, clock: str = "host") -> Recording:
    """Steps of 10 ms: prepare 0-3, forward 3-8, wait 3-8, commit 8-10."""
    spans = []
    for step in range(n):
        at = step * 0.010
        spans += [
            Span("prepare", "host", at, at + 0.003, step),
            Span("forward", "compute", at + 0.003, at + 0.008, step),
            Span("wait", "host", at + 0.003, at + 0.008, step),
            Span("commit", "host", at + 0.008, at + 0.010, step),
        ]
    return Recording(tuple(spans), clock=clock, device="test device")


def bars(figure, name: str = "") -> list[Rectangle]:
    patches = figure.axes[0].patches
    return [patch for patch in patches if (patch.get_gid() or "").startswith(f"bar {name}")]


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_span_is_a_bar():
    """Three steps: nine host bars, three device bars, each where its times say."""
    figure = plot_timeline(steps(3))
    assert len(bars(figure)) == 12
    forward = bars(figure, "forward")
    assert [bar.get_x() for bar in forward] == pytest.approx([3, 13, 23])
    assert [bar.get_width() for bar in forward] == pytest.approx([5, 5, 5])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["host", "compute"]
    assert figure.axes[0].get_xlabel() == "milliseconds"


def test_bars_are_labelled_with_their_step():
    """What fits is written into the bar, and the gaps of the device carry their length."""
    found = texts(plot_timeline(steps(3), title="three"))
    assert {"forward 0", "forward 1", "forward 2", "wait 1"} <= set(found)
    assert found.count("idle 5.0 ms") == 2, found


def test_title_says_what_where_and_how_idle():
    """Title, idle share of the window, device."""
    title = plot_timeline(steps(3), title="My engine").axes[0].get_title(loc="left")
    assert title == "My engine  ·  device idle 50.0 %  ·  test device"


def test_a_simulated_clock_is_named():
    """A picture from a virtual clock says so, and only such a one does."""
    assert "simulated" in plot_timeline(steps(2, "simulated")).axes[0].get_title(loc="left")
    assert "simulated" not in plot_timeline(steps(2, "cuda")).axes[0].get_title(loc="left")


def test_long_recordings_show_six_steps():
    """Of 100 steps the six in the middle are drawn, the axis says so, and the idle share is that of all."""
    figure = plot_timeline(steps(100))
    assert len(bars(figure, "forward")) == 6
    assert "steps 47 to 52 of 0 to 99" in figure.axes[0].get_xlabel()


def test_steps_can_be_chosen():
    """The steps asked for are drawn, with neighbours cut at the edge of the picture."""
    figure = plot_timeline(steps(100), steps=(2, 4))
    assert len(bars(figure, "forward")) == 3
    assert figure.axes[0].get_xlim() == pytest.approx((0, 30))


def test_kinds_of_work_differ_without_colour():
    """In one row, no two kinds of work have both the same hatch and nearly the same lightness."""
    looks = {}
    for bar in bars(plot_timeline(steps(1))):
        red, green, blue, _ = bar.get_facecolor()
        looks[bar.get_gid()] = (bar.get_hatch(), 0.299 * red + 0.587 * green + 0.114 * blue)
    host = [looks["bar prepare"], looks["bar wait"], looks["bar commit"]]
    for number, (hatch, lightness) in enumerate(host):
        for other_hatch, other in host[number + 1 :]:
            assert hatch != other_hatch or abs(lightness - other) > 0.2, looks


def test_short_spans_do_not_vanish():
    """A span of a microsecond in a picture of 100 ms is still more than a pixel wide."""
    figure = plot_timeline(Recording((Span("h2d", "h2d", 0, 1e-6, 0), Span("forward", "compute", 0, 0.1, 0))))
    axes = figure.axes[0]
    pixels = axes.get_window_extent().width / (axes.get_xlim()[1] - axes.get_xlim()[0])
    assert bars(figure, "h2d")[0].get_width() * pixels > 1


def test_names_nobody_foresaw():
    """More kinds of work than looks, an unknown lane, spans without steps, no device lane: all are drawn."""
    spans = tuple(Span(f"kind {n}", "nic" if n % 2 else "host", n, n + 1) for n in range(9))
    assert len(bars(plot_timeline(Recording(spans)))) == 9


def test_a_covered_bar_has_no_label():
    """Where one span lies over the middle of another, only the upper one is labelled."""
    inner, outer = Span("wait", "host", 0.002, 0.009, 0), Span("launch", "host", 0, 0.010, 0)
    figure = plot_timeline(Recording((inner, outer)))
    assert [bar.get_gid() for bar in bars(figure)] == ["bar launch", "bar wait"], (
        "the inner one is drawn over the outer"
    )
    assert texts(figure) == ["wait 0"]


def test_saving(tmp_path):
    """PNG and SVG are written, into a folder that is made; two runs give the same PNG."""
    recording = steps(2)
    plot_timeline(recording, tmp_path / "new" / "a.png")
    plot_timeline(recording, tmp_path / "new" / "b.png")
    plot_timeline(recording, tmp_path / "new" / "a.svg")
    first = (tmp_path / "new" / "a.png").read_bytes()
    assert first.startswith(b"\x89PNG") and first == (tmp_path / "new" / "b.png").read_bytes()
    assert ElementTree.parse(tmp_path / "new" / "a.svg").getroot().tag.endswith("svg")


def test_a_notebook_can_show_it():
    """The figure carries its own PNG for notebooks."""
    assert plot_timeline(steps(1))._repr_png_().startswith(b"\x89PNG")
