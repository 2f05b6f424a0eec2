"""Where strangers' Python runs: in a container, or, when one is told to trust it, in an ordinary process.

Either way it gets a copy of the course, with the learner's files as its my/, and is ended when it takes too long or too
much memory, or writes too much. A container has no network, can write to a small /tmp alone, and sees no other file of
this machine. An ordinary process can do whatever you can: its limits are against mistakes, not against malice.

What neither prevents: a check runs in one process with the code that it checks, which could forge its result.
"""

import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.classroom.processes import Limits, OverLimit, end, watch
from toolkit.errors import UserError

PARTS = ("toolkit", "solutions", "tests", "figures", "pyproject.toml")  # of the course, what a check needs
NOT_COPIED = ("__pycache__", "*.pyc", "local", "*.png", ".hypothesis")
IMAGE = "stepahead-course"


@dataclass(frozen=True)
class Sandbox:
    """How a check is run: in a container by `program` ("docker" or "podman"; "" for an ordinary process).

    `stage` is the course's copy.
    """

    stage: Path
    program: str = ""
    image: str = IMAGE
    limits: Limits = Limits()

    def run(self, folder: Path, arguments: list[str]) -> bytes:
        """Run rerun.py on folder/my and return what it printed.

        Raises:
            OverLimit: it was ended, for a reason that lies in the handed-in code.
            UserError: it could not be run.
        """
        name = f"stepahead-check-{secrets.token_hex(6)}"
        module = ["-m", "toolkit.commands.classroom.rerun", *arguments]
        if self.program:
            command, where, environment = [*self._container(name, folder / MINE), "python", *module], folder, None
        else:
            where = folder / "course"
            shutil.copytree(self.stage, where)
            shutil.copytree(folder / MINE, where / MINE, dirs_exist_ok=True)
            temporary = folder / "tmp"
            temporary.mkdir()
            command = [sys.executable, *module]
            private = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
            environment = os.environ | SETTINGS | private
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                command, cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            try:
                watch(process, folder, self.limits)
            finally:
                end(process)
                if self.program:
                    subprocess.run([self.program, "rm", "--force", name], capture_output=True)
        if process.returncode == 0:
            return (folder / "out").read_bytes()[: self.limits.output_mb * 1_000_000]
        if self.program and process.returncode == 137:  # killed: within a container, for memory
            raise OverLimit(f"it needed more than {self.limits.memory_mb} MB of memory")
        last = (folder / "err").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise UserError(f"the check ended with code {process.returncode}: {''.join(last)[:200] or 'no message'}")

    def _container(self, name: str, my: Path) -> list[str]:
        memory = f"{self.limits.memory_mb}m"
        settings = [part for key, value in SETTINGS.items() for part in ("--env", f"{key}={value}")]
        return [
            *(self.program, "run", "--rm", "--name", name, "--network", "none", "--read-only", "--cap-drop", "ALL"),
            *(
                "--security-opt",
                "no-new-privileges",
                "--security-opt",
                "label=disable",
                "--pids-limit",
                "256",
                "--cpus",
                "1",
                "--user",
                "65534:65534",
            ),
            *("--memory", memory, "--memory-swap", memory, "--tmpfs", f"/tmp:size={self.limits.output_mb}m"),
            *("--volume", f"{self.stage}:/course:ro", "--volume", f"{my}:/course/{MINE}:ro"),
            *("--workdir", "/course", "--env", "HOME=/tmp", *settings, "--entrypoint", "", self.image),
        ]


SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "COURSE_CODE": "",
}


def make_stage(root: Path, stage: Path) -> None:
    """Copy what a check needs, with a place for my/."""
    (stage / MINE).mkdir(parents=True)
    for part in PARTS:
        source = root / part
        if source.is_dir():
            shutil.copytree(source, stage / part, ignore=shutil.ignore_patterns(*NOT_COPIED))
        elif source.is_file():
            shutil.copy(source, stage / part)


def find_container(image: str = IMAGE) -> str:
    """The container program that works here; "" where there is none.

    Raises:
        UserError: there is one, without the image.
    """
    for program in ("docker", "podman"):
        if shutil.which(program) and succeeds(program, "info"):
            if not succeeds(program, "image", "inspect", image):
                raise UserError(
                    f"{program} has no image {image}; make it with: {program} build -f binder/Dockerfile -t {image} . "
                    "(or trust the reports' code with TRUST=1)"
                )
            return program
    return ""


def succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
