"""Compiles sources to the bytecode of several versions of Python, each by an interpreter of that version.

An interpreter gets this very file as its program, so it imports the standard library alone:

    python3.12 bytecode.py < sources.json > bytecode.json
"""

import base64
import importlib.util
import json
import marshal
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")  # that the course runs on


def interpreters(named: Iterable[str] = ()) -> dict[str, list[str]]:
    """Cache tag, such as "cpython-312" -> the command of an interpreter: this one, those named, those on the PATH."""
    commands = [[sys.executable], *([name] for name in named), *([f"python{version}"] for version in VERSIONS)]
    commands += [["py", f"-{version}"] for version in VERSIONS]  # Windows' launcher
    found: dict[str, list[str]] = {}
    for command in commands:
        if shutil.which(command[0]) is None:
            continue
        code = "import sys; print(sys.implementation.cache_tag)"
        # A shim for a version that is not installed is on the PATH too, and fails.
        done = subprocess.run([*command, "-c", code], capture_output=True, text=True)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), command)
    return found


def wanted() -> set[str]:
    """The cache tags of the versions that the course runs on."""
    return {f"cpython-{version.replace('.', '')}" for version in VERSIONS}


def compiled_by(command: list[str], sources: Mapping[str, str]) -> dict[str, bytes]:
    """Name -> magic number and marshalled code, for sources by the names that their code is to have."""
    done = subprocess.run(
        [*command, str(Path(__file__).resolve())], input=json.dumps(sources).encode(), capture_output=True, check=True
    )
    return {name: base64.b64decode(text) for name, text in json.loads(done.stdout).items()}


def main() -> None:
    sources = json.loads(sys.stdin.buffer.read())
    codes = {name: compile(text, name, "exec", dont_inherit=True) for name, text in sources.items()}
    made = {name: importlib.util.MAGIC_NUMBER + marshal.dumps(code) for name, code in codes.items()}
    print(json.dumps({name: base64.b64encode(content).decode() for name, content in made.items()}))


if __name__ == "__main__":
    main()
