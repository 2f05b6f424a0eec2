"""The imports of several modules as those of one, see one_file.py."""

import ast
import sys
from collections.abc import Iterable

from toolkit.errors import UserError

WIDTH = 120  # characters in a line


def merged(imports: Iterable[tuple[str, ast.Import | ast.ImportFrom]]) -> str:
    """Imports as text, sorted as the linter sorts them.

    Args:
        imports: each with the name of the module that has it.

    Raises:
        UserError: a name is imported with two meanings.
    """
    meaning: dict[str, str] = {}
    plain: set[str] = set()
    names: dict[str, set[str]] = {}
    for module, node in imports:
        source = str(node.module) if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            written = alias.name + (f" as {alias.asname}" if alias.asname else "")
            bound = alias.asname or alias.name
            if meaning.setdefault(bound, f"{source}.{alias.name}") != f"{source}.{alias.name}":
                raise UserError(f"{module}: {bound} means something else in another module")
            if isinstance(node, ast.Import):
                plain.add(written)
            else:
                names.setdefault(source, set()).add(written)
    groups = []
    for number in range(3):
        lines = [f"import {name}" for name in sorted(plain) if group_of(name) == number]
        for source in sorted(names, key=str.lower):
            if group_of(source) == number:
                lines.append(import_line(source, sorted(names[source], key=by_kind)))
        groups.append("\n".join(lines))
    return "\n\n".join(group for group in groups if group)


def group_of(module: str) -> int:
    """0 for the standard library, 1 for packages, 2 for the repository's own."""
    top = module.partition(".")[0].partition(" ")[0]
    return 2 if top == "toolkit" else 0 if top in sys.stdlib_module_names else 1


def by_kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def import_line(source: str, names: list[str]) -> str:
    line = f"from {source} import {', '.join(names)}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"from {source} import (", *(f"    {name}," for name in names), ")"])
