"""Opens the built pages in a headless Chromium, wide and as narrow as a telephone, and says what a reader would meet.

    .venv-site/bin/python -m toolkit.commands.site.browse     # exit code 1 where something is wrong

The pages of code are all alike, and so are the timelines: one of each is opened.
"""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Page, Request, Response, sync_playwright

from toolkit.commands.site.check import MOST_BYTES, SITE
from toolkit.errors import UserError, exit_cleanly

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCH = "search.html?q=pinned+memory"
# In the page: pictures that cannot be shown, bytes that were fetched, and outputs that are not folded though tagged.
BROKEN = "[...document.images].filter(each => each.complete && !each.naturalWidth).map(each => each.src)"
BYTES = "['navigation', 'resource'].flatMap(kind => performance.getEntriesByType(kind))"
BYTES += ".reduce((sum, each) => sum + each.encodedBodySize, 0)"
OPEN = "document.querySelectorAll('details[open]').length"
DARKNESS = "getComputedStyle(document.body).backgroundColor"
FOUND = "document.querySelectorAll('#search-results li').length"


def find_browser() -> str | None:
    """The program, if one is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def chosen(site: Path) -> list[str]:
    """The addresses of the pages to open."""
    names = [path.relative_to(site).as_posix() for path in sorted(site.rglob("*.html"))]
    alike = [[name for name in names if name.startswith(folder)] for folder in ("code/", "timelines/")]
    return [name for name in names if not any(name in each for each in alike)] + [each[0] for each in alike if each]


def wrong_on(page: Page, address: str) -> Iterator[str]:
    """What is wrong with a page as it is shown now, and with what a keyboard does to it."""
    if broken := page.evaluate(BROKEN):
        yield f"cannot show {', '.join(broken)}"
    if (size := page.evaluate(BYTES)) > MOST_BYTES:
        yield f"has fetched {size / 1e6:.1f} MB"
    width = page.evaluate("document.documentElement.scrollWidth")
    if page.viewport_size and width > page.viewport_size["width"]:
        yield f"is {width} pixels wide on a screen of {page.viewport_size['width']}"
    page.keyboard.press("Tab")
    if page.evaluate("document.activeElement === document.body"):
        yield "has nothing that the Tab key leads to"
    if page.evaluate(OPEN):
        yield "shows an answer that should be folded"
    if page.locator("summary").count():
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        if page.evaluate(OPEN) != 1:
            yield "has a folded part that the Enter key does not open"
    if address == SEARCH and not page.evaluate(FOUND):
        yield "finds nothing"


def look(site: Path, browser: str) -> list[str]:
    """What is wrong, each as "page, width: what"."""
    found: list[str] = []
    with served(site) as root, sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        grounds = {}
        for size, theme in ((WIDE, "light"), (NARROW, "dark")):
            page = program.new_page(viewport=size, color_scheme=theme)
            said: list[str] = []
            page.on("pageerror", lambda error, said=said: said.append(f"its script fails: {error}"))
            page.on("requestfailed", partial(_note_failure, said))
            page.on("response", partial(_note_refusal, said))
            for address in [*chosen(site), SEARCH]:
                page.goto(f"{root}/{address}", wait_until="networkidle")
                said += wrong_on(page, address)
                found += [f"{address}, {size['width']} pixels: {each}" for each in said]
                said.clear()
                if not address.startswith("timelines/"):
                    grounds[address, theme] = page.evaluate(DARKNESS)
        for address, theme in grounds:
            if theme == "dark" and grounds[address, "light"] == grounds[address, "dark"]:
                found.append(f"{address}: as bright in a dark theme")
        program.close()
    return found


def _note_failure(said: list[str], request: Request) -> None:
    if request.failure != "net::ERR_ABORTED":  # as a timeline is, which was unfolded, when the next page is opened
        said.append(f"cannot fetch {request.url}: {request.failure}")


def _note_refusal(said: list[str], answer: Response) -> None:
    if answer.status >= 400 and not answer.url.endswith("/favicon.ico"):  # which browsers ask for by themselves
        said.append(f"cannot fetch {answer.url}: {answer.status}")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder over HTTP, as a host would have it; gives its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def main() -> int:
    browser = find_browser()
    if browser is None:
        raise UserError(f"there is no browser to look with: install one of {', '.join(BROWSERS)}")
    found = look(SITE, browser)
    print("\n".join(found) or "no fault seen in the browser")
    return 1 if found else 0


if __name__ == "__main__":
    exit_cleanly(main)
