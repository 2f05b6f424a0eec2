"""What pip calls to build the library, see PEP 517: setuptools' own functions, in a folder that holds the package.

Nothing is written into the repository. An sdist holds the sources, from which a wheel is made in the same way. What
cannot be built ends the process with one line, which pip shows.
"""

import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from setuptools import build_meta

from toolkit.choice import ROOT
from toolkit.commands.library.gather import files_beside, gather, place
from toolkit.commands.library.rewrite import asked_for, rewritten
from toolkit.errors import UserError
from toolkit.files import write_whole

PROJECT_FILES = ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")
SOURCES = ("toolkit", "solutions")

Settings = dict[str, str | list[str] | None] | None


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Make a wheel; returns its name."""
    target = os.path.abspath(wheel_directory)
    with project_folder() as folder:
        try:
            write_package(ROOT, folder)
        except UserError as error:
            sys.exit(f"error: {error}")
        return build_meta.build_wheel(target, config_settings)


def build_editable(*arguments: object) -> NoReturn:
    """There is no such wheel: what the package holds is written when it is built."""
    sys.exit("error: stepahead is made from the repository's modules, so it cannot be editable; use: pip install .")


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Make an sdist; returns its name."""
    target = os.path.abspath(sdist_directory)
    with project_folder() as folder:
        for source in SOURCES:
            shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
        return build_meta.build_sdist(target, config_settings)


@contextmanager
def project_folder() -> Iterator[Path]:
    """A temporary folder with the project's files, and the current one while the block runs."""
    before = os.getcwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        for file in PROJECT_FILES:
            shutil.copy(ROOT / file, temporary)
        os.chdir(temporary)
        try:
            yield Path(temporary)
        finally:
            os.chdir(before)


def write_package(root: Path, folder: Path) -> None:
    """Write the package into a folder.

    Raises:
        UserError: a module cannot be part of it.
    """
    allowed = asked_for(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"])
    for name, module in gather(root).items():
        target = folder / place(name, module)
        write_whole(target, rewritten(module, allowed))
        for file in files_beside(module):
            shutil.copy(file, target.parent)
