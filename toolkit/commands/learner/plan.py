"""What an update does to each file of my/, worked out before anything is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.learner.cells import merge_notebooks
from toolkit.commands.learner.folder import read, read_base, read_release
from toolkit.commands.learner.modules import ModuleMerge
from toolkit.commands.learner.moves import files_before, moves
from toolkit.commands.learner.shipped import Release
from toolkit.commands.learner.texts import YOURS, marked_line
from toolkit.errors import UserError


@dataclass(frozen=True)
class Step:
    """What becomes of one file of my/, and of its base.

    Attributes:
        name: its path inside my/.
        text, base: what is to be there afterwards; None: no such file.
        says: what is reported; "" for what is no news.
        is_open: the learner has something to decide.
    """

    name: str
    text: str | None
    base: str | None
    says: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class Outcome:
    """A file of the new release, merged with the learner's; no text: that cannot be done."""

    text: str | None
    conflicts: int = 0
    notes: tuple[str, ...] = ()


class Plan:
    """All texts that an update looks at: `base` and `mine` (path inside my/ -> text), and the new release.

    Raises:
        UserError: a file still holds the marks of the last update, or merging needs git and there is none.
    """

    def __init__(self, root: Path, release: Release) -> None:
        self.release, self.base = release, read_base(root)
        names = {*self.base, *release.files}
        paths = {name: root / MINE / name for name in sorted(names | set(map(beside, names)))}
        self.mine = {name: read(path) for name, path in paths.items() if path.is_file()}
        refuse_marks(self.mine)
        self.moved = moves(read_release(root)[1], release.exercises)
        self.before = files_before(self.moved, self.base, release.files)
        base, mine, new = (modules_in(texts) for texts in (self.base, self.mine, release.files))
        self._modules = ModuleMerge(base, mine, new, self.moved)

    def steps(self) -> list[Step]:
        """In an order in which no function is taken from one file before it is written into another."""
        arrivals = {move.now.file for move in self.moved if move.now.file != move.before.file}
        files = sorted(self.release.files, key=lambda name: (name not in arrivals, name))
        gone = sorted(self.base.keys() - self.release.files.keys())
        return [step for name in files for step in self._stays(name)] + [self._goes(name) for name in gone]

    def _stays(self, name: str) -> Iterator[Step]:
        """The steps for a file of the new release."""
        new, mine, before = self.release.files[name], self.mine.get(name), self.before.get(name)
        outcome = self._merged(name, before)
        has_own_file = mine is not None and before != name and mine != outcome.text
        if outcome.text is None or has_own_file:
            why = "the course now has a file of this name" if has_own_file else "they cannot be merged cell by cell"
            says = f"{MINE}/{name} is as you left it, and this is the course's: {why}"
            yield Step(beside(name), outcome.text if has_own_file else new, None, says, is_open=True)
            if has_own_file:
                yield Step(name, mine, new)
        elif mine is None and new == self.base.get(name):
            return  # deleted by the learner; `make start` would bring it back
        else:
            says = self._says(name, before, outcome)
            yield Step(name, outcome.text, new, says, outcome.conflicts > 0)

    def _merged(self, name: str, before: str | None) -> Outcome:
        new, old = self.release.files[name], before or ""
        mine = self.mine.get(old)
        if name.endswith(".py"):
            merged = self._modules.merge(name, before)
            is_same = merged.text == f"{mine}\n"  # a last line without its end is no edit to be mended
            return Outcome(mine if is_same else merged.text, merged.conflicts, merged.notes)
        if mine is None or mine == self.base[old]:
            return Outcome(new)
        merged_cells = mine if new == self.base[old] else merge_notebooks(self.base[old], mine, new)
        return Outcome(merged_cells if merged_cells or before == name else new)

    def _says(self, name: str, before: str | None, outcome: Outcome) -> str:
        mine, text = self.mine.get(name), outcome.text or ""
        if outcome.conflicts:
            what = f"you and the course changed the same lines; choose at line {marked_line(text)}"
            what += f" and at {outcome.conflicts - 1} more" if outcome.conflicts > 1 else ""
        elif mine is None:
            what = f"new; it was {MINE}/{before}" if before not in (None, name) else "new"
        elif mine == text:
            what = ""
        elif mine == self.base[name]:
            what = "replaced; you had not changed it"
        else:
            what = "the course's changes are merged with yours"
        return "; ".join(filter(None, [what, *outcome.notes]))

    def _goes(self, name: str) -> Step:
        """The step for a file that the release does not have any more."""
        mine = self.mine.get(name)
        if mine is None:
            return Step(name, None, None)
        now = next((new for new, old in self.before.items() if old == name), None)
        what = f"is {MINE}/{now} now" if now else "taken away; the course has no exercise in it any more"
        return Step(name, None, None, what if mine == self.base[name] or now else f"{what}; you had edited it")


def beside(name: str) -> str:
    """Where the course's file is laid while the learner's stays: "x.py" gives "x.new.py"."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.new.{ending}"


def modules_in(files: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in files.items() if name.endswith(".py")}


def refuse_marks(mine: Mapping[str, str]) -> None:
    """An update on top of one that is not finished would merge its marks."""
    for name, text in modules_in(mine).items():
        if line := marked_line(text):
            raise UserError(
                f"{MINE}/{name}, line {line}: two versions of your code are there, from {YOURS.strip()!r} on; choose "
                "between them, delete the marks, and call make update again; nothing was changed"
            )
