"""The first two cells of a lesson that can be opened in Google Colab: a badge, and the set-up there.

Colab opens the notebook alone, so the second cell fetches the rest of the course. Both need the address of the public
repository, which is in one place: pyproject.toml, `[project.urls]`. When the course is published,
`python -m toolkit.commands.publish ADDRESS` writes it there; without one, lessons have no such cells.
"""

import tomllib
from pathlib import Path

import nbformat
from nbformat import NotebookNode

OPENED = "https://colab.research.google.com/github/{repository}/blob/main/chapters/{chapter}/lesson.ipynb"
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({opened})"
SET_UP = """# On Colab: the course, and the packages that Colab lacks (two minutes). Elsewhere this cell does nothing.
import os
import subprocess
import sys

if "google.colab" in sys.modules and not os.path.exists("../../toolkit"):
    subprocess.run(["git", "clone", "-q", "{address}", "course"], check=True)
    subprocess.run([sys.executable, "course/toolkit/bootstrap_beside.py"], check=True)
    os.chdir("course/chapters/{chapter}")"""


def address(root: Path) -> str | None:
    """Where the course is published, such as "https://github.com/OWNER/NAME"; None if that is not said."""
    settings = root / "pyproject.toml"
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    return tomllib.loads(text).get("project", {}).get("urls", {}).get("repository")


def badge(chapter: str, where: str) -> str:
    """The badge that opens a chapter's lesson, as Markdown."""
    return BADGE.format(opened=OPENED.format(repository=where.removeprefix("https://github.com/"), chapter=chapter))


def cells(chapter: str, root: Path) -> list[NotebookNode]:
    """What stands in front of a lesson's own cells: nothing where the course has no address."""
    where = address(root)
    if where is None:
        return []
    set_up = SET_UP.format(address=where, chapter=chapter)
    return [nbformat.v4.new_markdown_cell(badge(chapter, where)), nbformat.v4.new_code_cell(set_up)]
