"""How my/ is laid out, and reading and writing in it without ever losing a text.

my/ch02_.../           the learner's files
my/.base/ch02_.../     the same files as the course shipped them, for telling who changed what
my/.base/release.json  which release that was, and where its exercises are
my/.backup/<time>/     whatever a command has overwritten or taken away
my/.progress.json      hints taken, results of checks
"""

import json
import os
from datetime import datetime
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.learner.shipped import Place
from toolkit.errors import UserError
from toolkit.files import write_whole

BASE, BACKUP, RELEASE = ".base", ".backup", "release.json"


def looked_at(root: Path) -> Path:
    """The folder my/.

    Raises:
        UserError: it is no folder, or what the course shipped there is not known.
    """
    my = root / MINE
    if my.exists() and not my.is_dir():
        raise UserError(f"{my} is a file, and the folder of your exercises has that name; give the file another one")
    if not (my / BASE / RELEASE).is_file():
        raise UserError(f"{MINE}/{BASE}/{RELEASE} is not there; make start makes it, and leaves your files as they are")
    return my


def read_release(root: Path) -> tuple[str, dict[str, Place]]:
    """(digest, exercise id -> where it was) of the release that my/ was made or updated from."""
    path = looked_at(root) / BASE / RELEASE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        places = {id_: Place(item["file"], tuple(item["functions"])) for id_, item in found["exercises"].items()}
        return found["release"], places
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        name = f"{MINE}/{BASE}/{RELEASE}"
        raise UserError(f"{name} cannot be read ({error}); delete it, and call make start") from None


def read_base(root: Path) -> dict[str, str]:
    """Path inside my/ -> text as the course shipped it."""
    base = root / MINE / BASE
    paths = [path for path in sorted(base.rglob("*")) if path.is_file() and path != base / RELEASE]
    return {path.relative_to(base).as_posix(): read(path) for path in paths}


def edited_modules(root: Path) -> set[str]:
    """Path inside my/ of every Python file of a chapter there that is not as it was shipped, new ones included."""
    my = root / MINE
    paths = {path.relative_to(my).as_posix(): path for path in my.glob("ch*_*/**/*.py")}
    base = {name: my / BASE / name for name in paths}
    return {name for name, path in paths.items() if not base[name].is_file() or read(path) != read(base[name])}


def read(path: Path) -> str:
    """A text with line ends as on Linux. Bytes that are no UTF-8 come back as they were when it is written."""
    text = read_bytes(path).decode("utf-8", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def write(path: Path, text: str) -> None:
    """Write a text whole or not at all, with the line ends that the file has had."""
    windows = path.is_file() and b"\r\n" in read_bytes(path)
    write_whole(path, (text.replace("\n", "\r\n") if windows else text).encode("utf-8", "surrogateescape"))


class Backup:
    """Copies of what one command overwrites, in a folder of their own that is made with the first of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        stem = datetime.now().strftime("%Y-%m-%d_%H.%M.%S")
        folders = root / MINE / BACKUP
        names = (f"{stem}{suffix}" for suffix in ("", *(f"_{number}" for number in range(2, 1000))))
        self.folder = next(folders / name for name in names if not (folders / name).exists())

    def keep(self, name: str) -> None:
        """Copy my/<name>, byte by byte; a file that is not there needs none."""
        path = self.root / MINE / name
        if path.is_file():
            write_whole(self.folder / name, read_bytes(path))

    def __str__(self) -> str:
        return f"{self.folder.relative_to(self.root).as_posix()}/"


def remove(path: Path) -> None:
    """Delete a file, and its folder with it if that is empty then."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot delete {path}: {error.strerror or error}") from None
    if path.parent.is_dir() and not os.listdir(path.parent):
        path.parent.rmdir()
