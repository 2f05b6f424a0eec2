"""The course's site: its check finds what is wrong with a page, and what it is made from is all there."""

import json
import re
from pathlib import Path

import pytest
import yaml

from figures.draw import DATA
from toolkit.commands.site import check
from toolkit.commands.site.check import problems
from toolkit.commands.site.contents import PARTS
from toolkit.commands.site.timelines import PAGES, pages_of
from toolkit.course import ROOT
from toolkit.errors import UserError

GOOD = """<!DOCTYPE html>
<html lang="en"><head><title>A page</title><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="a.css"></head>
<body><h1 id="first">A page</h1><h2>Part</h2>
<p><a href="other.html#there">other</a> <a href="#first">up</a> <a href="https://example.org/x">elsewhere</a></p>
<img src="pictures/one.png" alt="One bar">
<iframe src="other.html" title="The other page" loading="lazy"></iframe></body></html>
"""
OTHER = GOOD.replace("other.html#there", "page.html").replace('id="first"', 'id="there"').replace("#first", "#there")
LESSONS = sorted(ROOT.glob("chapters/*/lesson.ipynb"))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages, a style and a picture, without a fault."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"a picture")
    (tmp_path / "a.css").write_text("body { background: url('pictures/one.png'); }")
    (tmp_path / "page.html").write_text(GOOD)
    (tmp_path / "other.html").write_text(OTHER)
    return tmp_path


def test_a_good_site_has_no_fault(site: Path, capsys: pytest.CaptureFixture[str]):
    assert problems(site) == []
    assert check.check(site) == 0
    assert capsys.readouterr().out.startswith("no fault in the pages of ")


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("other.html#there", "gone.html", "gone.html leads nowhere"),
        ("other.html#there", "other.html#gone", "other.html#gone: the page is there, and has nothing of that name"),
        ("#first", "#gone", "#gone: the page is there, and has nothing of that name"),
        ("other.html#there", "/other.html", "/other.html begins at the host's root; it must be relative"),
        ("pictures/one.png", "pictures/two.png", "pictures/two.png leads nowhere"),
        ('src="pictures/one.png"', 'src="https://example.org/a.png"', "loads https://example.org/a.png from elsewhere"),
        ('href="a.css"', 'href="//example.org/a.css"', "loads //example.org/a.css from elsewhere"),
        (' alt="One bar"', "", "the picture pictures/one.png has no text alternative"),
        (' alt="One bar"', ' alt=" "', "the picture pictures/one.png has no text alternative"),
        (' title="The other page"', "", "the frame other.html has no title"),
        (' loading="lazy"', "", "the frame other.html is loaded with the page; it needs loading=lazy"),
        (' lang="en"', "", "does not say which language it is in"),
        ("<title>A page</title>", "<title></title>", "has no title"),
        ('name="viewport"', 'name="author"', "has no meta viewport, so a telephone shows it as a wide page made small"),
        ("<h2>Part</h2>", "<h3>Part</h3>", "a heading of level 3 follows one of level 1"),
        ("<h2>Part</h2>", "<h1>Part</h1>", "has 2 headings of the first level; it needs one"),
        ("<h2>Part</h2>", '<h2 id="first">Part</h2>', "has several elements with the id first"),
    ],
)
def test_a_fault_is_found(site: Path, good: str, bad: str, said: str):
    """Each of them alone, with its page in front; the exit code says that there is one."""
    assert good in GOOD
    (site / "page.html").write_text(GOOD.replace(good, bad))
    found = problems(site)
    assert f"page.html: {said}" in found
    assert all(each.startswith("page.html: ") for each in found if "nothing of that name" not in each), found
    assert check.check(site) == 1


def test_a_page_weighs_what_it_loads(site: Path):
    """Pictures count, also those that a style names, each once; what is in a frame does not."""
    (site / "pictures" / "one.png").write_bytes(bytes(check.MOST_BYTES - len(GOOD) - 200))
    assert problems(site) == []
    (site / "pictures" / "one.png").write_bytes(bytes(check.MOST_BYTES))
    assert "page.html: weighs 3.0 MB with what it loads; 3 MB is the most" in problems(site)
    (site / "page.html").write_text(GOOD.replace('<img src="pictures/one.png" alt="One bar">', ""))
    assert "page.html: weighs 3.0 MB with what it loads; 3 MB is the most" in problems(site), "the style names it"
    (site / "a.css").write_text("")
    assert not [each for each in problems(site) if each.startswith("page.html")]


def test_a_folder_without_pages(tmp_path: Path):
    with pytest.raises(UserError, match="there is no page in .*; make site builds it"):
        problems(tmp_path)


def test_every_lesson_and_every_document_is_a_page():
    listed = {page for pages in PARTS.values() for page in pages}
    there = {"/" + path.relative_to(ROOT).with_suffix("").as_posix() for path in [*LESSONS, *ROOT.glob("docs/*.md")]}
    assert listed == there | {"/toolkit/simgpu/README"}


def shown() -> dict[str, str]:
    """All pictures that the site shows: of figures/ by name, of outputs by text alternative; with the page's text."""
    found = {}
    for path in [ROOT / "README.md", *LESSONS]:
        text = path.read_text(encoding="utf-8")
        found |= dict.fromkeys(re.findall(r"figures/(\w+)\.png\)", text), path.parent.name)
        if path.suffix == ".ipynb":
            found |= dict.fromkeys(alternatives(path), path.parent.name)
    return found


def alternatives(lesson: Path) -> list[str]:
    outputs = [each for cell in json.loads(lesson.read_text("utf-8"))["cells"] for each in cell.get("outputs", [])]
    pictures = [each for each in outputs if "image/png" in each.get("data", {})]
    return [each["metadata"].get("image/png", {}).get("alt", "") for each in pictures]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.parent.name)
def test_pictures_among_the_outputs_have_a_text_alternative(lesson: Path):
    """Notebooks are built with them; a picture without a title says what it shows in another way."""
    assert all(alternatives(lesson)), "make lessons, or give the Picture a title or `shows`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_timeline_is_below_a_picture(page):
    """In the lesson that its name says: a picture of that name or title is there."""
    (lesson,) = {lesson for picture, lesson in shown().items() if page in pages_of(picture)} - {ROOT.name}
    assert lesson.startswith(page.name[:4])
    assert page.picture != page.name or list(DATA.glob(f"*/{page.name}.json"))


def test_all_recorded_steps_can_be_zoomed_into():
    """A lesson that shows the recording of an engine's steps has the timeline too."""
    pictures = {picture for picture in shown() if re.fullmatch(r"ch\d\d_(eager_)?steps", picture)}
    assert pictures == {page.picture for page in PAGES if page.picture == page.name}


def test_a_timeline_is_written(tmp_path: Path):
    """From a recording, with the title of its page."""
    (page,) = pages_of("ch05_steps")
    page.write(tmp_path)
    written = (tmp_path / "ch05_steps.html").read_text(encoding="utf-8")
    assert "<h1>Two half batches in turns  ·  device idle 0.0 %  ·  NVIDIA H100" in written
    assert "IO buffers 1" in written


def test_a_host_gets_what_was_built():
    """The deploy file builds with the command of the README, looks at it, and hands over the folder."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/pages.yml").read_text(encoding="utf-8"))["jobs"]
    steps = jobs["build"]["steps"]
    commands = [step["run"].split(" #")[0] for step in steps if "run" in step]
    assert commands == ["make site", ".venv-site/bin/python -m toolkit.commands.site.browse"]
    assert steps[-1]["with"]["path"] == check.SITE.relative_to(ROOT).as_posix()
    assert jobs["deploy"]["needs"] == "build"


def test_the_packages_are_pinned():
    lines = (ROOT / "toolkit/commands/site/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if line and not line.startswith("#"))
    assert '"toolkit/commands/site/requirements.txt"' in (ROOT / "toolkit/bootstrap_site.py").read_text("utf-8")
