"""The course's make as a test calls it: it says the same in a terminal and within make test."""

import os
import subprocess

from toolkit.course import ROOT

# Make hands its flags and its depth on to a make that it calls, which then names the folders that it enters and leaves.
FROM_ANOTHER_MAKE = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"}


def run_make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """make with these arguments in the course's folder, with its exit code, stdout and stderr."""
    environment = {name: value for name, value in os.environ.items() if name not in FROM_ANOTHER_MAKE}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
