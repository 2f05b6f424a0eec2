"""Checks the site as it was built, without a network: links, pictures, headings, and what a page weighs.

.venv/bin/python -m toolkit.commands.site.check [FOLDER]     # build/site; exit code 1 where something is wrong
"""

import argparse
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly

SITE = ROOT / "build" / "site"
MOST_BYTES = 3_000_000  # of a page with all that it loads by itself; what is in a frame is loaded when it is opened
LOADED = {"img": "src", "script": "src", "link": "href"}
OTHER_PAGES = {"a": "href", "iframe": "src"}
ELSEWHERE = ("http", "https", "mailto", "data")
URL = re.compile(r"url\(\s*['\"]?([^'\")]+)")  # in a style sheet


class Page:
    """One HTML file, and what is wrong with it.

    Attributes:
        path: of the file.
        tags: its elements.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tags = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")

    @cached_property
    def anchors(self) -> set[str]:
        """What the part of an address behind # may be."""
        return {str(tag["id"]) for tag in self.tags.find_all(id=True)} | {"", "top"}

    def addresses(self, kinds: dict[str, str]) -> Iterator[tuple[Tag, str]]:
        """The elements of these kinds that have an address, such as {"a": "href"}, and the address."""
        for kind, attribute in kinds.items():
            for tag in self.tags.find_all(kind):
                if address := tag.get(attribute):
                    yield tag, str(address)

    def target(self, address: str) -> Path | None:
        """The file that an address within the site means; None for one that leads elsewhere."""
        parts = urlsplit(address)
        if parts.scheme in ELSEWHERE or parts.netloc:
            return None
        return (self.path.parent / unquote(parts.path)).resolve() if parts.path else self.path.resolve()


def problems(site: Path) -> list[str]:
    """Everything that is wrong with the pages below a folder, each as "page: what"."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        raise UserError(f"there is no page in {site}; make site builds it")
    return [
        f"{page.path.relative_to(site).as_posix()}: {found}"
        for page in pages.values()
        for check in (wrong_links, wrong_pictures, wrong_structure, wrong_weight)
        for found in check(page, pages)
    ]


def wrong_links(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Addresses within the site that lead nowhere, and what a page would load from elsewhere."""
    for tag, address in page.addresses({**LOADED, **OTHER_PAGES}):
        target = page.target(address)
        if address.startswith("/") and target is not None:  # a site may lie below a host's first folder
            yield f"{address} begins at the host's root; it must be relative"
        elif target is None:
            if tag.name in LOADED:
                yield f"loads {address} from elsewhere"
        elif not target.is_file():
            yield f"{address} leads nowhere"
        elif target in pages and unquote(urlsplit(address).fragment) not in pages[target].anchors:
            yield f"{address}: the page is there, and has nothing of that name"


def wrong_pictures(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Pictures and frames without a word for those who do not see them."""
    for tag in page.tags.find_all("img"):
        if not str(tag.get("alt") or "").strip():
            yield f"the picture {tag.get('src')} has no text alternative"
    for tag in page.tags.find_all("iframe"):
        if not tag.get("title"):
            yield f"the frame {tag.get('src')} has no title"
        if tag.get("loading") != "lazy":
            yield f"the frame {tag.get('src')} is loaded with the page; it needs loading=lazy"


def wrong_structure(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """What a screen reader goes by: a language, a title, one first heading and no level left out, names used once."""
    html = page.tags.find("html")
    if not isinstance(html, Tag) or not html.get("lang"):
        yield "does not say which language it is in"
    if page.tags.title is None or not page.tags.title.get_text(strip=True):
        yield "has no title"
    if page.tags.find("meta", attrs={"name": "viewport"}) is None:
        yield "has no meta viewport, so a telephone shows it as a wide page made small"
    levels = [int(tag.name[1]) for tag in page.tags.find_all(re.compile(r"^h[1-6]$"))]
    if levels.count(1) != 1 and page.path.name != "search.html":  # whose headings a script writes
        yield f"has {levels.count(1)} headings of the first level; it needs one"
    for before, after in zip(levels, levels[1:], strict=False):
        if after > before + 1:
            yield f"a heading of level {after} follows one of level {before}"
    names = [str(tag["id"]) for tag in page.tags.find_all(id=True)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"has several elements with the id {name}"


def wrong_weight(page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    size = page.path.stat().st_size + sum(file.stat().st_size for file in loaded_files(page))
    if size > MOST_BYTES:
        yield f"weighs {size / 1e6:.1f} MB with what it loads; {MOST_BYTES / 1e6:.0f} MB is the most"


def loaded_files(page: Page) -> set[Path]:
    """Pictures, scripts and styles of a page, and what its styles name."""
    files = {page.target(address) for tag, address in page.addresses(LOADED) if tag.get("rel") != ["index"]}
    found = {file for file in files if file is not None and file.is_file() and file.suffix != ".html"}
    for style in [file for file in found if file.suffix == ".css"]:
        named = (style.parent / urlsplit(name).path for name in URL.findall(style.read_text(encoding="utf-8")))
        found |= {path.resolve() for path in named if path.is_file()}
    return found


def check(site: Path) -> int:
    """Print what is wrong; returns the exit code."""
    found = problems(site)
    print("\n".join(found) or f"no fault in the pages of {site}")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m toolkit.commands.site.check", description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=SITE)
    return check(parser.parse_args().folder)


if __name__ == "__main__":
    exit_cleanly(main)
