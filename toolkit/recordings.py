"""The one writer and the one reader of recordings: figures/data/<device>/NAME.json.

Every figure and every number of the course is drawn from such a file. Each says on which device it was recorded, with
which versions, from which commit, and by which command, so that anybody can record it again.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from toolkit.errors import UserError
from toolkit.files import write_whole

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "figures" / "data"
KEYS = ("device", "torch", "transformers", "commit", "command", "rows")

Row = Mapping[str, str | int | float | bool | None]


def device_name(device: torch.device | str) -> str:
    """The device in words, such as "NVIDIA H100 80GB HBM3" or "Intel(R) Xeon(R) Processor, 2 cores".

    A name that torch does not know as a device, such as "simulated GPU", is taken as it is.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError:
        return str(device)
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    if kind == "cpu":
        return f"{_cpu_model()}, {os.cpu_count()} cores"
    return str(device)


def device_slug(device: torch.device | str) -> str:
    """The folder name for a device: "cpu", "h100", "a100", "t4", "rtx-4090".

    The maker, the memory's size and kind, and the socket are left out of a GPU's name.
    """
    try:
        if torch.device(device).type == "cpu":
            return "cpu"
    except RuntimeError:
        pass
    words = [word.strip(".") for word in re.split(r"[^a-z0-9.]+", device_name(device).lower())]
    noise = re.compile(r"nvidia|tesla|geforce|quadro|gpu|pcie|nvl|sxm\d*|hbm\w*|\d+gb|")
    return "-".join(word for word in words if not noise.fullmatch(word)) or "gpu"


def write_recording(
    name: str,
    rows: Sequence[Row],
    *,
    command: str,
    device: torch.device | str = "cpu",
    folder: Path | str = DATA,
) -> Path:
    """Write figures/data/<device>/NAME.json, whole or not at all, and return its path.

    Args:
        name: letters, digits, "_" and "-".
        rows: at least one flat dict; values are text, numbers, booleans or None.
        command: how to record it again, from the repository's root.
        device: where it was recorded; a torch device, or a name in words for what is none.

    Raises:
        ValueError: the name or the rows are not as above.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"a recording's name is made of letters, digits, _ and -, got {name!r}")
    check_rows(rows)
    head = {
        "device": device_name(device),
        "torch": torch.__version__,
        "transformers": _version_of("transformers"),
        "commit": _commit(),
        "command": command,
    }
    # One row a line: it can be read, and a new recording gives a readable difference.
    lines = ",\n".join("  " + json.dumps(dict(row), allow_nan=False) for row in rows)
    path = Path(folder) / device_slug(device) / f"{name}.json"
    write_whole(path, json.dumps(head, indent=1).removesuffix("\n}") + f',\n "rows": [\n{lines}\n ]\n}}\n')
    return path


def read_recording(path: Path | str) -> dict[str, Any]:
    """Read what `write_recording` wrote: a dict with the keys in `KEYS`.

    Raises:
        UserError: the file is missing, is no JSON, or is no recording.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a recording: {error}") from None
    missing = [key for key in KEYS if key not in data] if isinstance(data, dict) else list(KEYS)
    if missing:
        raise UserError(f"{path} is no recording: it lacks {', '.join(missing)}; record it again")
    try:
        check_rows(data["rows"])
    except ValueError as error:
        raise UserError(f"{path} is no recording: {error}; record it again") from None
    return data


def check_rows(rows: object) -> None:
    """Raise ValueError unless `rows` is a non-empty list of flat dicts that JSON can hold."""
    if not isinstance(rows, Sequence) or isinstance(rows, str) or not rows:
        raise ValueError("rows must be a list with at least one row")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"row {number} is {type(row).__name__}, not a dict")
        for key, value in row.items():
            if not isinstance(key, str) or not (value is None or isinstance(value, str | int | float | bool)):
                raise ValueError(f"row {number}, {key!r}: a {type(value).__name__} is not flat")
            if isinstance(value, float) and not abs(value) < float("inf"):
                raise ValueError(f"row {number}, {key!r} is {value}")


def _cpu_model() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit that the code is at, "-dirty" if code differs from it (recordings and pictures do not count), or
    "unknown"."""
    git = ["git", "-C", str(ROOT)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        drawn = [":!figures/data", ":!figures/*.png"]
        changes = [*git, "status", "--porcelain", "--untracked-files=no", "--", ".", *drawn]
        status = subprocess.run(changes, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("-dirty" if status.stdout.strip() else "")
