"""Which code runs: the learner's (my/) or the reference (solutions/).

Every chapter is a package such as `ch02_continuous_batching` that is imported by its bare name. Its files with
exercises exist twice, complete in solutions/ and as the learner writes them in my/. Which of the two is meant is
decided once per process and in one place:

    use("solutions")                       # every chapter is the reference solution (the default of `make test`)
    use("mine", "ch02", fill=True)         # chapter 2 is the learner's, all others are the reference
    open_chapter("ch02")                   # what a lesson calls: the same, as COURSE_CODE says

Of a chapter that is the learner's, every file in my/ runs from there and every other file from solutions/ (see
toolkit/finder.py). With `fill`, exercises that are not solved yet run as the reference, so that no learner is blocked
(see toolkit/fill.py).
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from toolkit.choice import ROOT, Choice
from toolkit.errors import UserError
from toolkit.fill import forget, refill_edited
from toolkit.finder import PACKAGE, ChapterFinder

_choice: Choice | None = None


def current() -> Choice | None:
    """What `use` was last called with; None before."""
    return _choice


def chapter_names(root: Path = ROOT) -> list[str]:
    """The folder names of all chapters, in order."""
    folders = [*(root / "solutions").glob("ch*_*/"), *(root / "chapters").glob("ch*_*/")]
    return sorted({folder.name for folder in folders if PACKAGE.fullmatch(folder.name)})


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
        chapter: such as "ch02": with code "mine" only this chapter is the learner's. None: all chapters. What is not
            in my/ runs as the reference in any case, save a file with exercises: that is an error when imported.
        fill: unsolved exercises of the learner's files run as the reference, after a printed message.

    Raises:
        UserError: `code` is neither of the two, or there is no such chapter.
    """
    global _choice
    if code not in ("solutions", "mine"):
        raise UserError(f'COURSE_CODE is {code!r}; it must be "mine", "solutions" or not set')
    name = None if chapter is None else find_chapter(chapter, root)
    _choice = Choice(code, name, fill, root, overlay or {})
    for module in [module for module in sys.modules if PACKAGE.match(module)]:
        del sys.modules[module]
    forget()
    others = [finder for finder in sys.meta_path if not isinstance(finder, ChapterFinder)]
    sys.meta_path[:] = [ChapterFinder(_choice), *others]
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
