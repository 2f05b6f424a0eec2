"""The set-up for `make run-ray`, `make serve-ray` and `make test-ray`: `.venv-ray`, which has Ray on top of `.venv`.

    .venv/bin/python -m toolkit.bootstrap_ray [--skip]

Ray is large and few need it, so it has an environment of its own; what is in `.venv` is found from there, and stays as
it is. With --skip, a system for which there is no Ray is no error: exit code 3 tells the Makefile to skip the tests.
"""

import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

from toolkit import bootstrap
from toolkit.bootstrap import SetUpError, say

REQUIREMENTS = "solutions/ch10_serving/requirements.txt"
NO_RAY = 3
# jsonschema imports rfc3987_syntax where it is there (Jupyter brings it), which makes a parser: two seconds of CPU in
# each of the dozen processes that Ray starts, none of which checks an IRI. So it is not there.
WITHOUT = 'import sys; sys.modules["rfc3987_syntax"] = None'


def is_supported() -> bool:
    """Whether Ray has wheels for this system that can do what chapter 10 does."""
    return (sys.platform, platform.machine()) in {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")}


def set_up(repository: Path) -> None:
    """Make or complete `.venv-ray`; returns at once when it is finished already. `.venv` is finished."""
    venv = repository / ".venv-ray"
    stamp = venv / ".course-stamp"
    expected = bootstrap.expected_stamp(repository, repository / ".venv") + (repository / REQUIREMENTS).read_text()
    if bootstrap.venv_python(venv).exists() and stamp.exists() and stamp.read_text() == expected:
        return
    with bootstrap.one_at_a_time(repository):
        say(f"setting up {venv.name} with Ray (550 MB on the disk); this takes a minute or two, and only this once")
        if not bootstrap.venv_python(venv).exists():
            bootstrap.make_venv(venv)
        below = sysconfig.get_path("purelib")
        paths = [below, WITHOUT]
        site = subprocess.run(
            [bootstrap.venv_python(venv), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        (Path(site) / "course.pth").write_text("\n".join(paths) + "\n")
        failure = bootstrap.pip(venv, "-r", str(repository / REQUIREMENTS), "-c", str(repository / "constraints.txt"))
        if failure is not None:
            raise SetUpError("\n".join([f"pip could not install {REQUIREMENTS}; its last lines:", *failure]))
        stamp.write_text(expected)


def main(arguments: list[str]) -> int:
    if not is_supported():
        line = f"Ray has no wheel for {platform.system()} on {platform.machine()} that can do what chapter 10 does"
        if "--skip" in arguments:
            say(f"skipped: {line}")
            return NO_RAY
        print(f"error: {line}; on Windows, use WSL", file=sys.stderr)
        return 1
    try:
        set_up(bootstrap.REPOSITORY)
    except (SetUpError, OSError) as error:
        print(f"error: set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next call starts the set-up afresh", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
