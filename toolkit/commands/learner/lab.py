"""Opens JupyterLab on the first lesson of my/: `make lab`, or `python -m toolkit.commands.learner.lab`.

The repository is Jupyter's root: a lesson's pictures and all other lessons lie outside its own folder. What is added on
the command line goes to JupyterLab, such as --no-browser.
"""

import sys
from pathlib import Path

from toolkit.choice import MINE, ROOT
from toolkit.commands.learner.start import FIRST_LESSON, ensure
from toolkit.errors import exit_cleanly


def arguments(root: Path) -> list[str]:
    return [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{MINE}/{FIRST_LESSON}"]


def launch(root: Path, flags: list[str]) -> None:
    """Make my/ if it is missing, and run JupyterLab until it is ended."""
    ensure(root)
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance([*arguments(root), *flags])


def main() -> int:
    launch(ROOT, sys.argv[1:])
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
