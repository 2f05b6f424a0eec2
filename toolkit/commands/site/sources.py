"""A page for each file of code that a text links to, with the line that the link names.

Sphinx would offer such a file for download, and forget the line.
"""

import html
import posixpath
import re
from collections.abc import Iterator

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx

from toolkit.course import ROOT

LINE = re.compile(r"\]\(([^()\s:#]+)(#L\d+)\)")  # in Markdown: a link to a line of a file


def keep_line_numbers(app: Sphinx, page: str, source: list[str]) -> None:
    """Name links to lines as paths, of which MyST keeps all."""
    source[0] = LINE.sub(r"](path:\1\2)", source[0])


class Sources:
    """The files that are linked to, by their paths in the repository, and their pages."""

    def __init__(self) -> None:
        self.linked: set[str] = set()

    def link_to_pages(self, app: Sphinx, document: nodes.document) -> None:
        """Turn downloads, which is what links to files have become, into links to pages."""
        here = posixpath.dirname(app.env.docname)
        for link in list(document.findall(addnodes.download_reference)):
            name, _, line = link["reftarget"].partition("#L")
            path = posixpath.normpath(posixpath.join(here, name))
            if (ROOT / path).is_file():  # otherwise Sphinx says that it is missing
                self.linked.add(path)
                to = f"{page_of(path)}.html" + (f"#L-{line}" if line else "")
                link.replace_self(nodes.reference("", "", *link.children, refuri=posixpath.relpath(to, here or ".")))

    def pages(self, app: Sphinx) -> Iterator[tuple[str, dict[str, object], str]]:
        """The pages, as Sphinx takes them: name, what the template gets, template."""
        formatter = HtmlFormatter(linenos="inline", linespans="L", cssclass="highlight", wrapcode=True)
        for path in sorted(self.linked):
            try:
                lexer = get_lexer_for_filename(path)
            except ClassNotFound:
                lexer = TextLexer()
            code = highlight((ROOT / path).read_text(encoding="utf-8"), lexer, formatter)
            yield page_of(path), {"title": path, "body": f"<h1>{html.escape(path)}</h1>\n{code}"}, "page.html"


def page_of(path: str) -> str:
    return f"code/{path}"


def setup(app: Sphinx) -> dict[str, bool]:
    sources = Sources()
    app.connect("source-read", keep_line_numbers)
    app.connect("doctree-read", sources.link_to_pages, priority=400)  # before Sphinx collects downloads
    app.connect("html-collect-pages", sources.pages)
    return {"parallel_read_safe": False}
