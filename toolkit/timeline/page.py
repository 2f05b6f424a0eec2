"""Writes a timeline as one HTML file to zoom into, which a browser shows without a network and without Python.

The chart is Bokeh's (chart.py), whose script is part of the file (1.3 MB; plotly's would be 4.8). What a program named
or printed may be in a recording: it comes to the page as data or escaped, never as markup.
"""

import html
from pathlib import Path

import bokeh
from bokeh.embed import components
from bokeh.resources import Resources

from toolkit.files import write_whole
from toolkit.timeline.chart import make_chart
from toolkit.timeline.plot import full_title
from toolkit.timeline.recording import Recording

HOW_TO_READ = (
    "Zoom by the wheel, move by dragging, or with the buttons at the right (the Tab key leads there, Enter presses "
    "them); the round arrow brings the first view back. Hover over a bar, an arrow or a red line to see what it is and "
    "which line of the program made it. A click on an entry of the legend hides or shows what belongs to it."
)
WHOLE = "The whole run is here, before and behind what is seen first."
LICENCE = (
    "Drawn with Bokeh {}, whose script is part of this file: Copyright (c) Anaconda, Inc., and Bokeh Contributors, BSD "
    "3-Clause licence. The licence's text is at the beginning of the script."
)
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 1.5em; color: #222222; }}
h1 {{ font-size: 1.2em; }}
.chart {{ overflow-x: auto; }}
pre {{ background: #F4F4F4; padding: 0.8em; white-space: pre-wrap; }}
footer {{ color: #666666; font-size: 0.8em; }}
</style>
{bokeh}
</head>
<body>
<main>
<h1>{title}</h1>
<p>{how} {extent}</p>
<div class="chart">{chart}</div>
{report}
</main>
<footer>{licence}</footer>
{script}
</body>
</html>
"""


def export_html(
    recording: Recording,
    path: Path | str,
    *,
    title: str = "",
    steps: tuple[int, int] | None = None,
    report: str = "",
    extent: str = WHOLE,
) -> None:
    """Write the page to `path`, whole or not at all.

    Args:
        title, steps: as for `plot_timeline`; the steps are what is seen first.
        report: what a check said of it, shown below.
        extent: how much of the run is on the page.
    """
    script, chart = components(make_chart(recording, steps))
    page = PAGE.format(
        title=html.escape(full_title(recording, title)),
        bokeh=Resources(mode="inline", components=["bokeh"]).render_js(),
        how=HOW_TO_READ,
        extent=html.escape(extent),
        chart=chart,
        report=f"<pre>{html.escape(report)}</pre>" if report else "",
        licence=LICENCE.format(bokeh.__version__),
        script=script,
    )
    write_whole(path, page)
