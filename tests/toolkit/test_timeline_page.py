"""A timeline's page: complete in itself, and nothing that a program named becomes markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from bokeh.models import HBar, HoverTool, Segment

from toolkit.timeline import Edge, FoundRace, Recording, Span, export_html
from toolkit.timeline.chart import make_chart

EVIL = "</script><script>alert(1)</script><img src=http://evil onerror=alert(2)>"
COPY = Span("H2D copy", "h2d", 0.0, 0.001, 0, 0, "writes ids", "a.py:7")
FORWARD = Span("forward", "compute", 0.0005, 0.009, 0, 0, "reads ids", "a.py:9")
NEXT = Span("forward", "compute", 0.009, 0.017, 1, 1, "reads ids", "a.py:9")
COMMIT = Span("commit", "host", 0.010, 0.012, 0, 0)
RACE = FoundRace(COPY, FORWARD, "ids", "record an event", "RACE on ids")
RECORDING = Recording(
    (COPY, FORWARD, NEXT, COMMIT),
    "simulated",
    "simulated GPU",
    edges=(Edge("compute", "host", 0.009, 0.010, "a.py:10", "a.py:11"),),
    races=(RACE, replace(RACE, memory="lengths"), FoundRace(COPY, NEXT, "ids", "record an event", "RACE on ids")),
)
EVIL_COPY = Span(EVIL, "h2d", 0.0, 0.001, 0, 0, EVIL, EVIL)
EVIL_RECORDING = Recording(
    (EVIL_COPY, replace(FORWARD, name=EVIL), Span(EVIL, EVIL, 0.0, 0.001)),
    "simulated",
    EVIL,
    edges=(Edge("h2d", "compute", 0.001, 0.002, EVIL, EVIL),),
    races=(FoundRace(EVIL_COPY, FORWARD, EVIL, EVIL, EVIL),),
)


class Page(HTMLParser):
    """The elements of a page, with their attributes, and the text outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text += data


def page_of(tmp_path, recording, **options):
    path = tmp_path / "new" / "timeline.html"
    export_html(recording, path, **options)
    return path.read_text(encoding="utf-8")


def glyphs(chart, kind):
    return [each for each in chart.renderers if isinstance(each.glyph, kind)]


def test_nothing_that_a_program_named_is_markup(tmp_path):
    """Names, buffers, lines, lanes, devices, titles and reports with tags in them: the page has no element more."""
    harmless = Page(page_of(tmp_path, RECORDING, title="a title", report="a report"))
    text = page_of(tmp_path, EVIL_RECORDING, title=EVIL, report=EVIL)
    page = Page(text)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert page.text.count(EVIL) == 5, "title and device, twice, and the report"
    assert "<script>alert" not in text and "<img" not in text.partition("</head>")[2]


@pytest.mark.parametrize("recording", [RECORDING, EVIL_RECORDING])
def test_the_page_asks_for_nothing_from_elsewhere(tmp_path, recording):
    """No element has an address: styles, script and data are in the file."""
    elements = Page(page_of(tmp_path, recording)).elements
    assert {"script", "style"} <= {tag for tag, _ in elements}
    assert not [(tag, attrs) for tag, attrs in elements if {"src", "href", "srcset", "data", "action"} & set(attrs)]
    assert "link" not in {tag for tag, _ in elements}


def test_the_licence_is_named(tmp_path):
    text = page_of(tmp_path, RECORDING)
    shown = Page(text).text
    assert re.search(r"Bokeh \d+\.\d+\.\d+", shown) and "BSD 3-Clause" in shown
    assert "Redistribution and use in source and binary forms" in text, "its text is in the file as well"


def test_it_is_small(tmp_path):
    """As large as Bokeh's script and hardly more; plotly's would be 4.8 MB."""
    assert len(page_of(tmp_path, RECORDING)) < 1.5e6


def test_every_span_is_a_bar_that_tells_of_itself():
    """Grouped by IO buffers: operation, lane, times, buffers, memory and line are there to hover over."""
    bars = []
    for drawn in glyphs(make_chart(RECORDING), HBar):
        columns = drawn.data_source.data
        if "what" in columns:  # else it is a gap
            bars += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    assert len(bars) == len(RECORDING.spans)
    copy = next(bar for bar in bars if bar["where"] == "h2d")
    assert copy["what"] == "H2D copy, step 0" and copy["when"] == "0.000 to 1.000 ms, 1.000 ms long"
    assert (copy["buffers"], copy["memory"], copy["line"]) == ("0", "writes ids", "a.py:7")
    colours = {bar["buffers"]: bar["colour"] for bar in bars}
    assert colours["0"] != colours["1"]


def test_edges_and_races_are_lines():
    """An arrow for the event; a dashed line for each two bars that race, the first one's seen from the start."""
    lines = glyphs(make_chart(RECORDING), Segment)
    dashed = [line for line in lines if line.glyph.line_dash]
    assert [line.visible for line in dashed] == [True, False]
    first = dashed[0].data_source.data
    assert list(first["what"]) == ["2 between these two, on ids; lengths"]
    assert (first["x0"][0], first["x1"][0]) == pytest.approx((0.5, 4.75)), "from middle to middle"
    assert (first["y0"][0], first["y1"][0]) == (1, 2)
    assert first["missing"] == ["record an event"] and "a.py:7" in first["first"][0] and "a.py:9" in first["second"][0]
    event = next(line for line in lines if "recorded" in line.data_source.data).data_source.data
    assert (event["x0"][0], event["x1"][0]) == pytest.approx((9, 10))
    assert (event["recorded"], event["waited"]) == (["a.py:10"], ["a.py:11"])


def test_what_is_hovered_over_is_escaped():
    """Bokeh escapes a column's values wherever a template names it without a format, such as {safe}."""
    templates = [tool.tooltips for tool in make_chart(EVIL_RECORDING).tools if isinstance(tool, HoverTool)]
    assert len(templates) >= 4 and all("@" in template and "{" not in template for template in templates)
    assert not any("alert" in template for template in templates)


def test_a_recording_without_edges_has_none():
    """One made on a real GPU knows of no edges and no races."""
    assert glyphs(make_chart(Recording((COPY, FORWARD))), Segment) == []
