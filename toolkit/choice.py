"""Whose code runs, as data: what `toolkit.course.use` was told, and where a chapter's files are looked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MINE = "my"  # the learner's copy, a folder of the repository (toolkit/commands/learner makes it)


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

    def rooms(self, package: str) -> list[Path]:
        """The folders in which the files of a chapter are looked for; the first that has a file wins."""
        solutions = self.root / "solutions"
        return [self.root / MINE, solutions] if self.is_mine(package) else [solutions]

    def describe(self) -> str:
        """Whose code runs, as the end of a sentence."""
        if self.code == "solutions":
            return "the reference solutions, in solutions/"
        folder = f"{MINE}/" if self.chapter is None else f"{MINE}/{self.chapter}/"
        others = "all other files and what is not solved yet" if self.fill else "all other files"
        return f"your code, in {folder} ({others} run as the reference)"
