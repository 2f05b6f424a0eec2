"""Lets the reference stand in for exercises that are not solved yet, one function at a time.

The learner's file is executed as it is. Then every function in which the generated `raise NotImplementedError("chNN
exercise K: ...")` still stands gets the *code* of the reference function; its globals stay those of the learner's
module, so the reference calls whatever the learner has already written.
"""

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from toolkit.choice import MINE
from toolkit.withheld import reference_code

# In solutions/, where the lines of an exercise begin. A file that has such a line is the learner's to write.
BEGIN = re.compile(r"^(?P<indent>\s*)# BEGIN SOLUTION (?P<id>\S+)\s*$", re.MULTILINE)
PLACEHOLDER = re.compile(r"(ch\d\d exercise \d+): .*", re.DOTALL)


@dataclass(frozen=True)
class Unsolved:
    """A function that still holds its placeholder: `exercise` is such as "ch02 exercise 1"; lines count from 1."""

    qualname: str
    exercise: str
    function_line: int
    raise_line: int


@dataclass(frozen=True)
class _Filled:
    """A module that was filled; `seen` is the time of the last change of the learner's file that was acted on."""

    module: ModuleType
    path: Path
    reference: Path
    seen: int


_filled: dict[str, _Filled] = {}


def functions_in(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(qualified name, node) of every module-level function and method."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from functions_in(node, f"{prefix}{node.name}.")


def find_unsolved(text: str, path: Path) -> list[Unsolved]:
    """The functions of a source text in which a placeholder still stands. A broken text raises its SyntaxError."""
    found = []
    for qualname, function in functions_in(ast.parse(text, str(path))):
        for node in ast.walk(function):
            if isinstance(node, ast.Raise) and (exercise := _placeholder(node)):
                found.append(Unsolved(qualname, exercise, function.lineno, node.lineno))
                break
    return found


def _placeholder(node: ast.Raise) -> str | None:
    match node.exc:
        case ast.Call(func=ast.Name(id="NotImplementedError"), args=[ast.Constant(value=str(message))]):
            found = PLACEHOLDER.fullmatch(message)
            return found[1] if found else None
    return None


def fill_unsolved(module: ModuleType, path: Path, reference: Path) -> None:
    """Give every unsolved function of a freshly executed module the reference's code, and say so.

    Args:
        module: the learner's module, executed.
        path, reference: the learner's file and the same file of solutions/.
    """
    _filled[module.__name__] = _Filled(module, path, reference, os.stat(path).st_mtime_ns)
    unsolved = find_unsolved(path.read_text(encoding="utf-8"), path)
    if not unsolved or not reference.is_file():
        return
    code = {item.co_qualname: item for item in _code_objects(reference_code(reference))}
    filled: dict[str, list[Unsolved]] = {}
    for item in unsolved:
        function = find_function(module, item.qualname)
        if function is not None and item.qualname in code:
            function.__code__ = code[item.qualname]
            filled.setdefault(item.exercise, []).append(item)
    for exercise, items in filled.items():
        names = ", ".join(item.qualname for item in items)
        print(
            f"{exercise} ({path.name}, {names}) is not solved yet; the reference solution stands in. "
            f"Open {MINE}/{path.parent.name}/{path.name}, line {items[0].function_line}."
        )


def forget() -> None:
    """Another choice of code was made: what was filled under the last one no longer matters."""
    _filled.clear()


def refill_edited(*_: object) -> None:
    """Fill again what autoreload has just taken from an edited file."""
    for filled in list(_filled.values()):
        try:
            if os.stat(filled.path).st_mtime_ns != filled.seen:
                fill_unsolved(filled.module, filled.path, filled.reference)
        except (OSError, SyntaxError):
            continue  # autoreload has already reported it


def _code_objects(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _code_objects(constant)


def find_function(module: ModuleType, qualname: str) -> FunctionType | None:
    """The function object itself, from below staticmethod, classmethod, property and functools.wraps."""
    found: object = module
    for name in qualname.split("."):
        found = vars(found).get(name)
        if found is None:
            return None
    while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
        inner = [getattr(found, name, None) for name in ("__wrapped__", "__func__", "fget", "func")]
        found = next((candidate for candidate in inner if candidate is not None), None)
        if found is None:
            return None
    return found
