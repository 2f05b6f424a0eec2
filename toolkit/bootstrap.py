"""The set-up: makes `.venv` in the repository from requirements.txt, once. `python3 toolkit/bootstrap.py`

Every target of the Makefile calls this first. It imports the standard library alone, since it runs before anything is
installed, and any Python from 3.6 on can read it, so that an old one gets one clear line instead of a syntax error.

A stamp in `.venv` says what the folder holds: `unfinished` while packages are being installed, and afterwards a hash of
the pinned versions and the Python that they were installed for. Only a stamp that fits is believed: an interrupted
set-up is started afresh, changed pins are installed on top, and otherwise there is nothing to do.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036  (this file is run by whatever python3 happens to be)
    sys.exit(
        "error: this is Python %d.%d and the course needs 3.11 or newer; "  # noqa: UP031
        "if you have one, name it: make run PYTHON=python3.12" % sys.version_info[:2]
    )

import collections
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
UNFINISHED = "unfinished"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP_OPTIONS = ["--disable-pip-version-check", "--no-input", "--progress-bar=off"]
# For looking whether a CPU build can be had at all: where the network is closed, this may cost seconds, not minutes.
QUICK = ["--timeout", "5", "--retries", "0"]


class SetUpError(Exception):
    """The set-up cannot go on; the message says why."""


def venv_python(venv: Path) -> Path:
    """The interpreter inside a virtual environment, on this system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def has_nvidia_driver() -> bool:
    """Whether this Linux machine has an NVIDIA driver, judged by the files that a driver brings."""
    libraries = (
        Path(folder)
        for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib/wsl/lib")
    )
    return (
        shutil.which("nvidia-smi") is not None
        or Path("/dev/nvidiactl").exists()
        or Path("/proc/driver/nvidia").exists()
        or any((library / "libcuda.so.1").exists() for library in libraries)
    )


def expected_stamp(repository: Path, venv: Path) -> str:
    """What the stamp of a finished `.venv` reads: a hash of the pins and the version of the Python inside."""
    pins = b"".join((repository / name).read_bytes() for name in ("requirements.txt", "constraints.txt"))
    inside = re.search(r"^version\S*\s*=\s*(\d+\.\d+)", (venv / "pyvenv.cfg").read_text(), re.MULTILINE)
    return f"{hashlib.sha256(pins).hexdigest()} python{inside.group(1) if inside else '?'}"


def is_finished(repository: Path, venv: Path) -> bool:
    """Whether `.venv` holds exactly what the pins ask for, as far as its stamp tells."""
    stamp = venv / ".course-stamp"
    if not (stamp.exists() and venv_python(venv).exists() and (venv / "pyvenv.cfg").exists()):
        return False
    return stamp.read_text() == expected_stamp(repository, venv)


def pip(venv: Path, *arguments: str) -> list[str] | None:
    """Run `pip install` in the environment, with one line for each large download and for the installation.

    Returns None when it worked, otherwise pip's last lines.
    """
    command = [str(venv_python(venv)), "-m", "pip", "install", *PIP_OPTIONS]
    last: collections.deque[str] = collections.deque(maxlen=12)
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            download = re.match(r"\s*Downloading (\S+?)-(\d\S*?)-\S+ \((\d{2,}(?:\.\d+)? [MG]B)\)", line)
            if download:
                say(f"  downloading {download[1]} {download[2]} ({download[3]})")
            elif line.startswith("Installing collected packages:"):
                packages = line.partition(":")[2].split(",")
                say(f"  installing {packages[0].strip() if len(packages) == 1 else f'{len(packages)} packages'}")
    return None if process.returncode == 0 else list(last)


def install_cpu_torch(repository: Path, venv: Path) -> None:
    """Try for torch's CPU build, several times smaller than the ordinary one; not getting it is no error."""
    wanted = re.search(r"^torch==(\S+)$", (repository / "requirements.txt").read_text(), re.MULTILINE)
    assert wanted is not None, "requirements.txt must pin torch"
    package = f"torch=={wanted[1]}+cpu"
    say(f"no NVIDIA driver here: looking for {package}")
    if pip(venv, package, "--no-deps", *QUICK) is not None:
        pip(venv, package, "--no-deps", *QUICK, "--index-url", TORCH_CPU_INDEX)


def installed_torch(venv: Path) -> str:
    """The version of torch in the environment as installed, such as 2.13.0+cpu; read from its metadata."""
    code = "from importlib.metadata import version; print(version('torch'))"
    return subprocess.run([venv_python(venv), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def make_venv(venv: Path) -> None:
    """An empty virtual environment, marked as unfinished before its first file is written."""
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise SetUpError(
            f"{sys.executable} has no venv or ensurepip module; on Debian and Ubuntu: sudo apt install python3-venv"
        )
    if venv.exists():
        say(f"{venv.name} was left unfinished or its Python is gone: making it again")
        shutil.rmtree(venv)
    venv.mkdir()
    (venv / ".course-stamp").write_text(UNFINISHED)
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode != 0:
        raise SetUpError(f"cannot make a virtual environment in {venv}:\n{made.stdout}{made.stderr}".rstrip())


def set_up(repository: Path) -> None:
    """Make or complete `.venv`; returns at once when it is finished already."""
    venv = repository / ".venv"
    if is_finished(repository, venv):
        return
    with one_at_a_time(repository):
        if is_finished(repository, venv):
            return
        stamp = venv / ".course-stamp"
        say(f"setting up {venv.name} with {sys.executable}; this takes some minutes, and only this once")
        earlier = stamp.read_text() if stamp.exists() else None
        if earlier == UNFINISHED or not venv_python(venv).exists():
            make_venv(venv)
        elif earlier is not None:
            stamp.write_text(UNFINISHED)
        # An environment without a stamp is the reader's own: it is completed, and never thrown away.
        cpu_will_do = sys.platform == "linux" and not has_nvidia_driver()
        if cpu_will_do:
            install_cpu_torch(repository, venv)
        failure = pip(venv, "-r", str(repository / "requirements.txt"))
        if failure is not None:
            if earlier is not None:  # pip gave up before it changed anything, say without a network: all is as it was
                stamp.write_text(earlier)
            raise SetUpError("\n".join(["pip could not install requirements.txt; its last lines:", *failure]))
        torch_version = installed_torch(venv)
        took = f"took torch's {'CPU' if '+cpu' in torch_version else 'ordinary'} build, {torch_version}"
        say(f"no NVIDIA driver here: {took} (to choose again: delete {venv.name})" if cpu_will_do else took)
        stamp.write_text(expected_stamp(repository, venv))


@contextmanager
def one_at_a_time(repository: Path) -> Iterator[None]:
    """Let a second set-up of the same repository wait for the first, where the system has file locks."""
    with open(repository / "requirements.txt", "r+b") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # Windows, or a file system without locks
            pass
        yield


def say(line: str) -> None:
    """One line of progress, seen at once."""
    print(line, flush=True)


def exit_code(act: Callable[[], None]) -> int:
    """Set something up; what goes wrong is one line."""
    try:
        act()
    except (SetUpError, OSError) as error:
        print(f"error: set-up: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the next call starts the set-up afresh", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(lambda: set_up(REPOSITORY)))
