"""An environment of its own on top of `.venv`, for packages that few need: Ray's, and the site's.

What is in `.venv` is found from there, and stays as it is.
"""

import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from toolkit import bootstrap
from toolkit.bootstrap import SetUpError, say


def set_up(repository: Path, name: str, requirements: str, what: str, lines: Sequence[str] = ()) -> None:
    """Make or complete an environment; returns at once when it is finished already. `.venv` is finished.

    Args:
        name: of the folder, such as ".venv-ray".
        requirements: the file with the pinned packages.
        what: it is being set up with, for the line that says so.
        lines: of Python, run whenever a Python of this environment starts.

    Raises:
        SetUpError: pip could not install the packages.
    """
    venv = repository / name
    stamp = venv / ".course-stamp"
    expected = bootstrap.expected_stamp(repository, repository / ".venv") + (repository / requirements).read_text()
    if bootstrap.venv_python(venv).exists() and stamp.exists() and stamp.read_text() == expected:
        return
    with bootstrap.one_at_a_time(repository):
        say(f"setting up {venv.name} with {what}; this takes a minute or two, and only this once")
        if not bootstrap.venv_python(venv).exists():
            bootstrap.make_venv(venv)
        site = subprocess.run(
            [bootstrap.venv_python(venv), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        (Path(site) / "course.pth").write_text("\n".join([sysconfig.get_path("purelib"), *lines]) + "\n")
        failure = bootstrap.pip(venv, "-r", str(repository / requirements), "-c", str(repository / "constraints.txt"))
        if failure is not None:
            raise SetUpError("\n".join([f"pip could not install {requirements}; its last lines:", *failure]))
        stamp.write_text(expected)


def set_up_or_say_why(name: str, requirements: str, what: str, lines: Sequence[str] = ()) -> int:
    """The same for this repository, as a command: returns its exit code."""
    return bootstrap.exit_code(lambda: set_up(bootstrap.REPOSITORY, name, requirements, what, lines))
