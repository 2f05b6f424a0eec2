"""Which modules the package consists of, and where each of them lies in it."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from toolkit.commands.sources import Module, find, is_chapter, read
from toolkit.errors import UserError

PACKAGE = "stepahead"
OWN = f"toolkit.commands.library.{PACKAGE}"  # written for the package; all others are the course's
STARTS = (OWN, f"{OWN}.run", f"{OWN}.serve", "toolkit.pytest_simgpu", "toolkit.simgpu.__main__")
STAND_INS = {"toolkit.course": f"{OWN}.course"}


def gather(root: Path) -> dict[str, Module]:
    """All modules that STARTS reach through imports, in functions and for type checkers too, by their names.

    Raises:
        UserError: a module imports one of the repository's that is not there.
    """
    found: dict[str, Module] = {}
    waiting = [*STARTS]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = module = read(STAND_INS.get(name, name), root)
        waiting += needed(module, root)
        if not name.startswith(OWN):  # which lies at the package's top
            waiting += [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
    return found


def needed(module: Module, root: Path) -> Iterator[str]:
    """The repository's modules that a module imports."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if is_ours(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and is_ours(node.module):
            parts = (f"{node.module}.{alias.name}" for alias in node.names)
            names = [node.module, *(part for part in parts if find(part, root))]
        else:
            continue
        for name in names:
            if find(name, root) is None:
                raise UserError(f"{module.name}, line {node.lineno}: the repository has no module {name}")
            yield name


def is_ours(name: str) -> bool:
    """Whether a dotted name is one of the repository's modules, or inside one."""
    return name.partition(".")[0] == "toolkit" or is_chapter(name)


def name_in_package(name: str) -> str:
    """The name under which the package has a module of the repository."""
    return f"{PACKAGE}{name.removeprefix(OWN)}" if name.startswith(OWN) else f"{PACKAGE}.{name}"


def files_beside(module: Module) -> Iterator[Path]:
    """The files in a module's folder that it names in a string, such as toolkit/prompts.jsonl."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.fullmatch(r"[\w-]+\.\w+", node.value)
            if named and not node.value.endswith(".py") and (file := module.path.parent / node.value).is_file():
                yield file


def place(name: str, module: Module) -> Path:
    """The file of a module in the folder that the package is made in."""
    path = Path(*name_in_package(name).split("."))
    return path / "__init__.py" if module.path.name == "__init__.py" else path.with_suffix(".py")
