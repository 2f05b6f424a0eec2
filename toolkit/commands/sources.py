"""The repository's own modules as text and as trees, for what is made of them: the engine in one file, the library."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from toolkit.errors import UserError
from toolkit.withheld import is_withheld

MARKERS = ("# BEGIN SOLUTION", "# END SOLUTION")


@dataclass(frozen=True)
class Module:
    """A module of the repository.

    Attributes:
        name: such as "ch02_continuous_batching.request" or "toolkit.errors".
        path: its file.
        text: its source.
    """

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def imports(self) -> Iterator[ast.Import | ast.ImportFrom]:
        """Those at the top level."""
        for node in self.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield node

    def defined(self) -> Iterator[str]:
        """The names that it defines at the top level."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.Assign):
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield node.target.id


def is_chapter(module: str | None) -> bool:
    return module is not None and module.startswith("ch") and module[2:4].isdigit()


def find(name: str, root: Path) -> Path | None:
    """The file of a module of the repository's, a chapter's in solutions/; None if there is no such module."""
    path = (root / "solutions" if is_chapter(name) else root).joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def read(name: str, root: Path) -> Module:
    """A module's text.

    Raises:
        FileNotFoundError: the repository has no such module.
        UserError: its text is withheld, in a release without later solutions.
    """
    path = find(name, root)
    if path is None:
        raise FileNotFoundError(f"no module {name} in {root}")
    if is_withheld(path):
        raise UserError(f"{name} is not released yet, so nothing can be made of it: take the whole course")
    return Module(name, path, path.read_text(encoding="utf-8"))


def without_markers(lines: list[str]) -> list[str]:
    """Lines of source without those that say where an exercise begins and ends."""
    return [line for line in lines if not line.strip().startswith(MARKERS)]
