"""Finds and loads the files of chapters, one by one: a learner's file in my/, any other in solutions/.

my/ holds the files with exercises, and whatever else a learner has put there: a copy of any other file of solutions/
runs in its place, and a new file can be imported too. So one package's files may come from both folders.
"""

import functools
import importlib.machinery
import linecache
import re
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType

from toolkit.choice import MINE, Choice
from toolkit.errors import UserError
from toolkit.fill import BEGIN, fill_unsolved
from toolkit.withheld import is_withheld, reference_code

PACKAGE = re.compile(r"ch(\d\d)_\w+")


class ChapterFinder(MetaPathFinder):
    """Answers imports of chapter packages and of their modules; leaves all others to the finders behind it."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package, *inside = fullname.split(".")
        if not PACKAGE.fullmatch(package):
            return None
        rooms = self.choice.rooms(package)
        folders = [str(room.joinpath(package, *inside).parent) for room in rooms]
        # A package's folder without an __init__.py does not count while a later one has it.
        spec = importlib.machinery.PathFinder.find_spec(fullname, folders)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = ChapterLoader(fullname, spec.loader.path, self.choice)
            spec.cached = None
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations = [str(room.joinpath(package, *inside)) for room in rooms]
        return spec


class ChapterLoader(importlib.machinery.SourceFileLoader):
    """Loads one file of a chapter: always from its text, so that an edit is never hidden by old bytecode."""

    def __init__(self, fullname: str, path: str, choice: Choice) -> None:
        super().__init__(fullname, path)
        self.choice = choice
        self.package = fullname.partition(".")[0]

    @property
    def is_learners(self) -> bool:
        return Path(self.path).is_relative_to(self.choice.root / MINE)

    def get_code(self, fullname: str) -> CodeType:
        linecache.cache.pop(self.path, None)  # messages quote the text that runs, not what was read before an edit
        text = self.get_data(self.path)
        withheld = not self.is_learners and is_withheld(Path(self.path))
        if self.choice.is_mine(self.package) and not self.is_learners and (withheld or BEGIN.search(text.decode())):
            # The reference must not run where the learner's code is asked for, least of all one with a bug mended.
            raise missing(f"{MINE}/{self.inside(self.path).as_posix()}")
        return reference_code(Path(self.path)) if withheld else compiled(text, self.path)

    def get_data(self, path: str) -> bytes:
        file = self.inside(path).relative_to(self.package).as_posix()
        planted = self.choice.overlay.get((self.package, file))
        if planted is None:
            return super().get_data(path)
        linecache.cache[path] = len(planted), None, planted.splitlines(keepends=True), path
        return planted.encode()

    def inside(self, path: str) -> Path:
        """A file's place inside the folder, my/ or solutions/, that it lies in."""
        room = next(room for room in self.choice.rooms(self.package) if Path(path).is_relative_to(room))
        return Path(path).relative_to(room)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if self.choice.fill and self.is_learners:
            fill_unsolved(module, Path(self.path), self.choice.root / "solutions" / self.inside(self.path))


@functools.cache  # a process that begins with the chapters loaded (a planted mistake's) imports them again
def compiled(text: bytes, path: str) -> CodeType:
    return compile(text, path, "exec", dont_inherit=True)


def missing(name: str) -> UserError:
    """A learner's file, such as my/ch02_continuous_batching/scheduler.py, is not there, and holds an exercise."""
    return UserError(f"{name} is not there; bring it back with: make start (python -m toolkit.commands.learner.start)")
