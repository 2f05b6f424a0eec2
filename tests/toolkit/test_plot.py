"""The picture of a timeline: what is drawn, and what is written on it."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from matplotlib.patches import Rectangle

from toolkit.timeline import Edge, FoundRace, Recording, Span, plot_timeline


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
    """A span of a microsecond in a picture of 100 ms is still two pixels wide."""
    figure = plot_timeline(Recording((Span("h2d", "h2d", 0, 1e-6, 0), Span("forward", "compute", 0, 0.1, 0))))
    axes = figure.axes[0]
    pixels = axes.get_window_extent().width / (axes.get_xlim()[1] - axes.get_xlim()[0])
    assert bars(figure, "h2d")[0].get_width() * pixels >= 2 - 1e-9


def test_names_that_were_not_foreseen():
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
    """The figure carries its own PNG for notebooks, and what it shows in words."""
    png, described = plot_timeline(steps(3), title="My engine")._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert described == {"alt": "My engine · device idle 50.0 % · test device"}


def patches(figure, gid: str) -> list:
    return [patch for patch in figure.axes[0].patches if patch.get_gid() == gid]


def test_every_edge_is_an_arrow():
    """From the lower edge of the first lane's bar, when it was passed, to the upper one of the second's; or none."""
    edges = (Edge("host", "compute", 0.003, 0.004), Edge("compute", "host", 0.008, 0.0085), Edge("h2d", "host", 0, 1))
    recording = replace(steps(3), edges=edges)
    assert patches(plot_timeline(recording), "edge") == []
    arrows = patches(plot_timeline(recording, edges=True), "edge")
    ends = [tuple(map(tuple, arrow._posA_posB)) for arrow in arrows]
    half = 0.31
    assert ends == [
        (pytest.approx((3, half)), pytest.approx((4, 1 - half))),
        (pytest.approx((8, 1 - half)), pytest.approx((8.5, half))),
    ]


def race(first: Span, second: Span, memory: str = "ids") -> FoundRace:
    return FoundRace(first, second, memory, "an edge", f"RACE on {memory}")


FORWARD, AT_ONCE = Span("forward", "compute", 0.003, 0.008), Span("fill_", "host", 0.009, 0.009)
LATER = Span("forward", "compute", 0.013, 0.018)


@pytest.mark.parametrize(
    ("races", "joined", "missing"),
    [
        ((), 0, 0),
        ((race(FORWARD, AT_ONCE),), 1, 1),
        ((race(FORWARD, AT_ONCE), race(FORWARD, AT_ONCE, "lengths")), 1, 1),
        ((race(FORWARD, AT_ONCE), race(LATER, AT_ONCE)), 2, 1),
    ],
)
def test_each_two_bars_that_race_are_joined_by_a_dashed_line(races, joined, missing):
    """However many bytes they race on; the missing edge is drawn once for each two lanes."""
    recording = replace(steps(3), races=races)
    figure = plot_timeline(recording, races=True)
    lines = [line for line in figure.axes[0].lines if line.get_gid() == "race"]
    assert len(lines) == joined and all(line.get_linestyle() == "--" for line in lines)
    assert len(patches(figure, "missing edge")) == missing
    assert len(patches(figure, "racing")) == 2 * joined
    if races:
        assert lines[0].get_xdata() == pytest.approx([5.5, 9]) and list(lines[0].get_ydata()) == [1, 0]
    figure = plot_timeline(recording)
    assert not [line for line in figure.axes[0].lines if line.get_gid() == "race"]


def test_of_chosen_steps_only_their_races_are_drawn():
    """The one whose other half belongs to a later step is left out."""
    races = (race(FORWARD, AT_ONCE), race(FORWARD, Span("fill_", "host", 0.0195, 0.0195)))
    recording = replace(steps(3), races=races)

    def count(**options):
        return len(patches(plot_timeline(recording, races=True, **options), "missing edge")), len(
            [line for line in plot_timeline(recording, races=True, **options).axes[0].lines if line.get_gid() == "race"]
        )

    assert count() == (1, 2)
    assert count(steps=(0, 0)) == (1, 1)


def test_two_buffers_have_two_colours():
    """Where spans go through two IO buffers the colour says which, on every lane; waiting stays white."""
    recording = steps(4)
    spans = tuple(replace(span, buffers=span.step % 2) for span in recording.spans)
    figure = plot_timeline(replace(recording, spans=spans))
    for name in ("forward", "prepare"):
        colours = [bar.get_facecolor() for bar in bars(figure, name)]
        assert colours[0] == colours[2] != colours[1] == colours[3]
    assert bars(figure, "forward")[0].get_facecolor() == bars(figure, "commit")[0].get_facecolor()
    assert {bar.get_facecolor() for bar in bars(figure, "wait")} == {(1, 1, 1, 1)}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:2] == ["IO buffers 0", "IO buffers 1"]
    first, second = (bar.get_facecolor() for bar in bars(figure, "forward")[:2])
    lightness = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue, _ in (first, second)]
    assert abs(lightness[0] - lightness[1]) > 0.2, "in greyscale, too"


def test_one_buffer_changes_nothing():
    recording = steps(2)
    spans = tuple(replace(span, buffers=0) for span in recording.spans)
    colours = [bar.get_facecolor() for bar in bars(plot_timeline(recording))]
    assert [bar.get_facecolor() for bar in bars(plot_timeline(replace(recording, spans=spans)))] == colours


def test_idle_time_is_hatched():
    gaps = patches(plot_timeline(steps(3)), "idle")
    assert [(gap.get_x(), gap.get_width()) for gap in gaps] == [
        (pytest.approx(start), pytest.approx(length)) for start, length in ((0, 3), (8, 5), (18, 5), (28, 2))
    ]
    assert all(gap.get_hatch() for gap in gaps)


def test_a_long_legend_gets_a_second_row():
    """All of it is inside the picture, which is higher by that."""
    edges, races = (Edge("host", "compute", 0.003, 0.004),), (race(FORWARD, AT_ONCE),)
    short = plot_timeline(steps(3))
    spans = tuple(replace(span, name=f"{span.name} of a long name") for span in steps(3).spans)
    recording = replace(steps(3), spans=spans, edges=edges, races=races)
    figure = plot_timeline(recording, edges=True, races=True)
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, "it would be cut off"
    assert figure.get_figheight() > short.get_figheight()
