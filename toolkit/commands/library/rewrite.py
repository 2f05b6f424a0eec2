"""A module's text as it is in the package: without markers of exercises, its imports one level lower.

What cannot be rewritten so is an error when the package is built, not when a user imports it: module names in strings,
relative imports, `import toolkit.x`, which binds the name toolkit, and packages that pyproject.toml does not ask for.
"""

import ast
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from toolkit.commands.library.gather import PACKAGE, is_ours, name_in_package
from toolkit.commands.sources import Module, without_markers
from toolkit.errors import UserError

# Statements, and the same in the examples of docstrings.
IMPORT = re.compile(r"^(\s*(?:from|import) )((?:toolkit|ch\d\d_\w+)(?:\.\w+)*)", re.MULTILINE)
MODULE_NAME = re.compile(r"ch\d\d_\w+|(?:toolkit|ch\d\d_\w+)(?:\.\w+)+")
BY_NAME = ("import_module", "__import__")
BROUGHT_ALONG = {
    "triton",  # by torch, where there is an NVIDIA GPU
    "pytest",  # which alone loads what imports it
    "pydantic",  # this and the next two by fastapi
    "pydantic_core",
    "starlette",
}


def rewritten(module: Module, allowed: Collection[str]) -> str:
    """The text of a module in the package.

    Args:
        allowed: top-level names of other packages that it may import, see `asked_for`.

    Raises:
        UserError: it would not find what it imports.
    """
    for line, problem in problems(module.tree):
        raise UserError(f"{module.name}, line {line}: {problem}")
    text = "\n".join(without_markers(module.lines)) + "\n" * bool(module.lines)
    text = IMPORT.sub(lambda match: match[1] + name_in_package(match[2]), text)
    for name in imported(ast.parse(text)):
        if name not in sys.stdlib_module_names and name not in (PACKAGE, *BROUGHT_ALONG, *allowed):
            ours = "write the import on a line of its own" if is_ours(name) else "pyproject.toml does not ask for it"
            raise UserError(f"{module.name} imports {name}: {ours}")
    return text


def problems(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, in words) of what would not work in the package."""
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=level) if level:
                yield node.lineno, "a relative import; write the module's whole name"
            case ast.Import(names=names) if any(is_ours(alias.name) and not alias.asname for alias in names):
                yield node.lineno, f"{ast.unparse(node)}; write: from ... import"
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name) if name in BY_NAME:
                yield node.lineno, f"{name}: which modules it imports cannot be seen; write an import"
            case ast.Constant(value=str(text)) if MODULE_NAME.fullmatch(text):
                yield node.lineno, f"the name of a module in a string, {text!r}; write an import"


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level names of everything that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def asked_for(project: Mapping[str, Any]) -> set[str]:
    """The packages that pyproject.toml's table `project` asks for, extras too, as they are imported."""
    extras = project.get("optional-dependencies", {})
    requirements = [*project["dependencies"], *(requirement for extra in extras.values() for requirement in extra)]
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0].replace("-", "_").lower() for requirement in requirements}
