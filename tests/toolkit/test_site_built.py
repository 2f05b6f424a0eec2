"""The site as Sphinx makes it, and in a browser; both need `make site`'s environment.

.venv-site/bin/python -m pytest -m "long or not long" tests/toolkit/test_site_built.py
"""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("myst_nb", reason="Sphinx is in .venv-site, which make site makes")
browse = pytest.importorskip("toolkit.commands.site.browse")

from bs4 import BeautifulSoup  # noqa: E402

from toolkit.commands.site.build import build  # noqa: E402
from toolkit.commands.site.check import problems  # noqa: E402
from toolkit.commands.site.sources import LINE  # noqa: E402
from toolkit.course import ROOT  # noqa: E402

PAGE = """<!DOCTYPE html><html lang="en"><head><title>A page</title>
<style>@media (prefers-color-scheme: dark) { body { background: black; } }</style></head>
<body><h1>A page</h1><details><summary>Answer</summary>42</details></body></html>"""
RESULTS = '<ul id="search-results"><li>A page</li></ul></body>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    build(folder)
    return folder


@pytest.mark.long
def test_no_fault(site: Path):
    assert problems(site) == []


@pytest.mark.long
@pytest.mark.parametrize("lesson", sorted(ROOT.glob("chapters/*/lesson.ipynb")), ids=lambda path: path.parent.name)
def test_answers_are_folded(site: Path, lesson: Path):
    """Every tagged cell's outputs, in a closed <details>; outputs of other cells are open; none is lost."""
    cells = [cell for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"] if cell.get("outputs")]
    tagged = [cell for cell in cells if "hide-output" in cell["metadata"].get("tags", [])]
    path = (site / lesson.relative_to(ROOT)).with_suffix(".html")
    page = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    folded = page.select("details.hide")
    assert len(folded) == len(tagged) and not page.select("details[open]")
    assert len(page.select("div.cell_output")) + len(folded) >= len(cells)
    for cell, part in zip(tagged, folded, strict=True):
        said = "".join("".join(each.get("text", "")) for each in cell["outputs"])
        assert re.sub(r"\s+", "", said) in re.sub(r"\s+", "", part.get_text())


@pytest.mark.long
def test_code_is_linked_by_line(site: Path):
    """docs/structure.md's links lead to the line of the file, whose page has it."""
    links = LINE.findall((ROOT / "docs/structure.md").read_text(encoding="utf-8"))
    page = BeautifulSoup((site / "docs/structure.html").read_text(encoding="utf-8"), "html.parser")
    made = [each["href"] for each in page.select("a[href*='/code/']")]
    assert made == [f"{name.replace('../', '../code/')}.html{line.replace('#L', '#L-')}" for name, line in links]


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("", "", None),
        ("<h1>", '<img src="gone.png" alt="x"><h1>', "cannot fetch http://127.0.0.1:[0-9]+/gone.png: 404"),
        ("<h1>", '<p style="width: 500px">wide</p><h1>', "page.html, 390 pixels: is [0-9]+ pixels wide"),
        ("<details>", "<details open>", "shows an answer that should be folded"),
        ("<summary>", '<summary onclick="return false">', "a folded part that the Enter key does not open"),
        ("<details><summary>Answer</summary>42</details>", "42", "has nothing that the Tab key leads to"),
        ("background: black", "color: white", "as bright in a dark theme"),
        ("</body>", "<script>gone()</script></body>", "its script fails: gone is not defined"),
    ],
)
@pytest.mark.skipif(browse.find_browser() is None, reason="there is no Chromium here")
@pytest.mark.long
def test_what_a_browser_finds(tmp_path: Path, good: str, bad: str, said: str | None):
    """Each fault alone."""
    (tmp_path / "search.html").write_text(PAGE.replace("</body>", RESULTS))
    (tmp_path / "page.html").write_text(PAGE.replace(good, bad))
    found = browse.look(tmp_path, browse.find_browser())
    assert (not found) if said is None else [each for each in found if re.search(said, each)], found
