"""Builds the site into build/site, and checks it. `make site`

.venv-site/bin/python -m toolkit.commands.site.build
"""

import shutil
from pathlib import Path

from sphinx.cmd.build import build_main

from toolkit.commands.site.check import SITE, check
from toolkit.commands.site.timelines import FOLDER, PAGES
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly

SCRATCH = ROOT / "build" / "site-scratch"  # Sphinx's own files


def build(site: Path = SITE) -> None:
    """Everything again from the start, so that what is gone from the repository is gone from the site.

    Raises:
        UserError: Sphinx found something wrong, and has said what.
    """
    for folder in (site, SCRATCH):
        shutil.rmtree(folder, ignore_errors=True)
    options = ["-q", "-E", "-W", "--keep-going", "-c", str(Path(__file__).parent), "-d", str(SCRATCH)]
    if build_main([*options, str(ROOT), str(site)]) != 0:
        raise UserError("the site was not built: see Sphinx's lines above")
    shutil.copy(site / "README.html", site / "index.html")  # the name that hosts look for
    for page in PAGES:
        page.write(site / FOLDER)


def main() -> int:
    build()
    print(f"wrote {SITE.relative_to(ROOT)}/index.html")
    return check(SITE)


if __name__ == "__main__":
    exit_cleanly(main)
