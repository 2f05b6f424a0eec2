"""What the site's pages are, in which order: the README as the first page, lessons, then docs/.

The README itself has no table of contents in Sphinx's words, which a code host would show as they are. It gets one
here.
"""

from typing import TYPE_CHECKING

from toolkit.course import ROOT

if TYPE_CHECKING:
    from sphinx.application import Sphinx

PARTS = {
    "Lessons": [f"/chapters/{path.parent.name}/lesson" for path in sorted(ROOT.glob("chapters/*/lesson.ipynb"))],
    "For reference": ["/docs/glossary", "/docs/troubleshooting", "/docs/structure", "/docs/simulator"],
    "To teach": [
        "/docs/instructors_guide",
        "/docs/class_plans",
        "/docs/helpers_sheet",
        "/docs/learners_questions",
        "/docs/wrong_answers",
    ],
    "To take part": ["/docs/CONTRIBUTING", "/docs/CHANGELOG"],
    "Beside the course": ["/toolkit/simgpu/README"],
}


def add_contents(app: "Sphinx", page: str, source: list[str]) -> None:
    """Append a hidden table of contents to the first page."""
    if page == app.config.root_doc:
        for caption, pages in PARTS.items():
            source[0] += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {caption}", *pages, "```\n"])


def setup(app: "Sphinx") -> dict[str, bool]:
    app.connect("source-read", add_contents)
    return {"parallel_read_safe": True}
