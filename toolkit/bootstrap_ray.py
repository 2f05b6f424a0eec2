"""The set-up for `make run-ray`, `make serve-ray` and `make test-ray`: `.venv-ray`, which has Ray on top of `.venv`.

    .venv/bin/python -m toolkit.bootstrap_ray [--skip]

Ray is large and few need it, so it has an environment of its own. With --skip, a system for which there is no Ray is no
error: exit code 3 tells the Makefile to skip the tests.
"""

import platform
import sys

from toolkit.bootstrap import say
from toolkit.bootstrap_layer import set_up_or_say_why

NAME = ".venv-ray"
REQUIREMENTS = "solutions/ch10_serving/requirements.txt"
WHAT = "Ray (550 MB on the disk)"
NO_RAY = 3
# jsonschema imports rfc3987_syntax where it is there (Jupyter brings it), which makes a parser: two seconds of CPU in
# each of the dozen processes that Ray starts, none of which checks an IRI. So it is not there.
WITHOUT = 'import sys; sys.modules["rfc3987_syntax"] = None'


def is_supported() -> bool:
    """Whether Ray has wheels for this system that can do what chapter 10 does."""
    return (sys.platform, platform.machine()) in {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")}


def main(arguments: list[str]) -> int:
    if not is_supported():
        line = f"Ray has no wheel for {platform.system()} on {platform.machine()} that can do what chapter 10 does"
        if "--skip" in arguments:
            say(f"skipped: {line}")
            return NO_RAY
        print(f"error: {line}; on Windows, use WSL", file=sys.stderr)
        return 1
    return set_up_or_say_why(NAME, REQUIREMENTS, WHAT, [WITHOUT])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
