"""Opens JupyterLab on the first lesson of my/: `make lab`, or `python -m toolkit.commands.learner.lab`.

The repository is Jupyter's root: a lesson's pictures and all other lessons lie outside its own folder. What is added on
the command line goes to JupyterLab, such as --no-browser.
"""

import sys
from pathlib import Path

from toolkit.choice import MINE, ROOT
from toolkit.commands.learner.start import FIRST_LESSON, ensure
from toolkit.errors import exit_cleanly


def arguments(root: Path = ROOT) -> list[str]:
    return [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{MINE}/{FIRST_LESSON}"]


def main() -> int:
    ensure()
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance([*arguments(), *sys.argv[1:]])
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
