"""Pictures on the site: outputs get their text alternative from the notebook, timelines a page to zoom into."""

import html
import json
import posixpath
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from toolkit.commands.site.timelines import FOLDER, Page, pages_of

ZOOM = """<details class="timeline"><summary>Zoom into this run: {title}</summary>
<iframe src="{address}" title="Interactive timeline: {title}" loading="lazy"></iframe>
<p><a href="{address}">The timeline as a page of its own</a></p></details>"""


def alternatives(notebook: dict[str, Any]) -> list[str]:
    """The text alternatives of all pictures among a notebook's outputs, in order; "" where one has none."""
    return [
        output.get("metadata", {}).get("image/png", {}).get("alt", "")
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]


def describe_outputs(app: Sphinx, document: nodes.document) -> None:
    """Take the notebook's word for what its outputs show; MyST-NB itself has one text for all outputs of a cell."""
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    found = [image for image in document.findall(nodes.image) if _is_output(image)]
    described = alternatives(json.loads(path.read_text(encoding="utf-8")))
    if len(found) != len(described):
        raise ExtensionError(f"{path}: {len(described)} pictures among the outputs, and {len(found)} on the page")
    for image, alternative in zip(found, described, strict=True):
        image["alt"] = alternative


def _is_output(node: nodes.Node) -> bool:
    return node.parent is not None and (
        (isinstance(node, nodes.Element) and node.get("nb_element") == "mime_bundle") or _is_output(node.parent)
    )


def add_timelines(app: Sphinx, document: nodes.document) -> None:
    """Under each picture of a run that there is an interactive timeline of, put that, folded and loaded when opened."""
    for image in list(document.findall(nodes.image)):
        for page in pages_of(image["alt"] if _is_output(image) else Path(image["uri"]).stem):
            block = _block_of(image)
            zoom = nodes.raw("", _zoom(page, app.env.docname), format="html")
            block.parent.insert(block.parent.index(block) + 1, zoom)


def _block_of(image: nodes.Element) -> nodes.Element:
    """The paragraph that a picture is in, or what holds it as an output."""
    block = image
    while not isinstance(block.parent, (nodes.document, nodes.section)) and block.get("nb_element") != "mime_bundle":
        block = block.parent
    return block


def _zoom(page: Page, document: str) -> str:
    address = posixpath.relpath(f"{FOLDER}/{page.name}.html", posixpath.dirname(document) or ".")
    return ZOOM.format(title=html.escape(page.title), address=address)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", describe_outputs, priority=300)
    app.connect("doctree-read", add_timelines, priority=310)  # before Sphinx gives pictures other addresses
    return {"parallel_read_safe": True}
