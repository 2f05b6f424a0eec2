"""Which code runs: the learner's (chapters/) or the reference (solutions/).

Every chapter is a package such as `ch02_continuous_batching` that exists twice, and everybody imports it by its bare
name. The finder below decides which of the two folders a name means, once per process and in one place:

    use("solutions")                       # every chapter is the reference solution (the default of `make test`)
    use("mine", "ch02", fill=True)         # chapter 2 is the learner's, all others are the reference
    open_chapter("ch02")                   # what a lesson calls: the same, as COURSE_CODE says

With `fill`, exercises that are not solved yet run as the reference, so that nobody is blocked (see toolkit/fill.py).
"""

import importlib.machinery
import linecache
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType

from toolkit.errors import UserError
from toolkit.fill import fill_unsolved, forget, refill_edited

ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = re.compile(r"ch(\d\d)_\w+")


@dataclass(frozen=True)
class Choice:
    """Whose code runs, for every chapter.

    Attributes:
        code: "solutions" or "mine".
        chapter: the folder name of the only chapter that is the learner's; None: `code` holds for all.
        fill: unsolved exercises of the learner's files run as the reference.
        root: the repository.
        overlay: (chapter folder, file in it) -> text that stands in for the file on disk; for planted mistakes.
    """

    code: str
    chapter: str | None = None
    fill: bool = False
    root: Path = ROOT
    overlay: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def is_mine(self, package: str) -> bool:
        return self.code == "mine" and self.chapter in (None, package)

    def describe(self) -> str:
        """Whose code runs, as the end of a sentence."""
        if self.code == "solutions":
            return "the reference solutions, in solutions/"
        if self.chapter is None:
            return (
                f"your code, in chapters/ (all chapters{'; what is not solved yet runs as the reference' * self.fill})"
            )
        others = "other chapters and what is not solved yet" if self.fill else "other chapters"
        return f"your code, in chapters/{self.chapter}/ ({others} run as the reference)"


_choice: Choice | None = None


def current() -> Choice | None:
    """What `use` was last called with; None before."""
    return _choice


def chapter_names(root: Path = ROOT) -> list[str]:
    """The folder names of all chapters, in order."""
    folders = [*(root / "solutions").glob("ch*_*/"), *(root / "chapters").glob("ch*_*/")]
    return sorted({folder.name for folder in folders if _PACKAGE.fullmatch(folder.name)})


def find_chapter(text: str, root: Path = ROOT) -> str:
    """The folder name of the chapter that `2`, `02`, `ch02` or the whole name means."""
    names = chapter_names(root)
    number = re.fullmatch(r"(?:ch)?(\d{1,2})(?:_\w+)?", text.strip())
    for name in names:
        if text == name or (number and int(name[2:4]) == int(number[1]) and "_" not in text):
            return name
    raise UserError(f"there is no chapter {text!r}; there are {', '.join(names) or 'no chapters yet'}")


def use(
    code: str,
    chapter: str | None = None,
    fill: bool = False,
    *,
    root: Path = ROOT,
    overlay: Mapping[tuple[str, str], str] | None = None,
) -> Choice:
    """Decide whose code every later `import chNN_...` gets. Chapters imported before are forgotten.

    Args:
        code: "solutions" or "mine".
        chapter: such as "ch02": with code "mine" only this chapter is the learner's. None: all chapters.
        fill: unsolved exercises of the learner's files run as the reference, after a printed message.

    Raises:
        UserError: `code` is neither of the two, or there is no such chapter.
    """
    global _choice
    if code not in ("solutions", "mine"):
        raise UserError(f'COURSE_CODE is {code!r}; it must be "mine", "solutions" or not set')
    name = None if chapter is None else find_chapter(chapter, root)
    _choice = Choice(code, name, fill, root, overlay or {})
    for module in [module for module in sys.modules if _PACKAGE.match(module)]:
        del sys.modules[module]
    forget()
    if not any(isinstance(finder, _ChapterFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ChapterFinder())
    return _choice


def open_chapter(chapter: str, *, root: Path = ROOT) -> None:
    """Start a lesson: choose the code as COURSE_CODE says, switch autoreload on, and print whose code runs.

    COURSE_CODE not set: this chapter is the learner's and the others the reference. "mine": all chapters are the
    learner's. "solutions": all are the reference. Unsolved exercises of the learner run as the reference.
    """
    setting = os.environ.get("COURSE_CODE") or None
    if setting is None:
        choice = use("mine", chapter, fill=True, root=root)
    else:
        find_chapter(chapter, root)
        choice = use(setting, fill=setting == "mine", root=root)
    _switch_autoreload_on()
    print(f"This lesson runs {choice.describe()}.")


def _switch_autoreload_on() -> None:
    if "IPython" not in sys.modules:
        return
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return
    shell.run_line_magic("load_ext", "autoreload")
    shell.run_line_magic("autoreload", "2")
    # Autoreload patches single functions and may so bring a placeholder back; this runs after it, before each cell.
    if refill_edited not in shell.events.callbacks["pre_run_cell"]:
        shell.events.register("pre_run_cell", refill_edited)


class _ChapterFinder(MetaPathFinder):
    """Answers imports of chapter packages and of their modules; leaves all others to the finders behind it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        package = fullname.partition(".")[0]
        if _choice is None or not _PACKAGE.fullmatch(package):
            return None
        folder = _choice.root / ("chapters" if _choice.is_mine(package) else "solutions")
        spec = importlib.machinery.PathFinder.find_spec(fullname, [str(folder)] if path is None else path)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _ChapterLoader(fullname, spec.loader.path)
            spec.cached = None
        return spec


class _ChapterLoader(importlib.machinery.SourceFileLoader):
    """Loads one file of a chapter: always from its text, so that an edit is never hidden by old bytecode."""

    def get_code(self, fullname: str) -> CodeType:
        linecache.cache.pop(self.path, None)  # messages quote the text that runs, not what was read before an edit
        return self.source_to_code(self.get_data(self.path), self.path)

    def get_data(self, path: str) -> bytes:
        assert _choice is not None
        package = self.name.partition(".")[0]
        folder = _choice.root / ("chapters" if _choice.is_mine(package) else "solutions") / package
        planted = _choice.overlay.get((package, Path(path).relative_to(folder).as_posix()))
        if planted is None:
            return super().get_data(path)
        linecache.cache[path] = len(planted), None, planted.splitlines(keepends=True), path
        return planted.encode()

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        assert _choice is not None
        if _choice.fill and _choice.is_mine(module.__name__.partition(".")[0]):
            relative = Path(self.path).relative_to(_choice.root / "chapters")
            fill_unsolved(module, Path(self.path), _choice.root / "solutions" / relative)
