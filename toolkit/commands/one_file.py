"""Writes the full engine into one file, to be read from front to back: solutions/engine_in_one_file.py.

    python -m toolkit.commands.one_file           # writes it
    python -m toolkit.commands.one_file --check   # writes nothing; exit code 1 if it is out of date

The modules that chapter 8's FullEngine consists of follow one another, each behind those that it needs. Imports of
chapters are dropped, all others are merged at the top; the markers of exercises go, and of each docstring all but its
first paragraph, since the chapters have the rest. A name that two modules define, or import with two meanings, is an
error: in one file it would quietly mean the later one.
"""

import argparse
import ast
import textwrap
from pathlib import Path

from toolkit.commands.merged_imports import WIDTH, merged
from toolkit.commands.sources import Module, is_chapter, read, without_markers
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

TARGET = Path("solutions") / "engine_in_one_file.py"
START = "ch08_full_engine.full_engine"
HEAD = '''"""The engine of chapter 8 in one file: everything that `FullEngine` consists of, from front to back.

Generated from the chapters by `python -m toolkit.commands.one_file`, to be read once in about an hour; nothing
imports it. Each block says which chapter and which file it comes from; there the docstrings have more than the first
paragraph that is left of them here. The lesson of chapter 8 has questions about this file.

Chapter 9's engine gives the same tokens and is faster with many requests: it swaps scheduler, packer, IO buffers,
request book, texts and metrics for parts that work on arrays. Loop, executor and forward are these here.
"""

'''


def in_order(root: Path) -> list[Module]:
    """The modules that the engine consists of: chapter by chapter, and each behind those that it imports."""
    found: dict[str, Module] = {}
    needs: dict[str, set[str]] = {}

    def visit(name: str) -> None:
        if name in needs:
            return
        module, needs[name] = read(name, root), set()
        for node in module.imports():
            if isinstance(node, ast.ImportFrom) and is_chapter(node.module):
                needs[name] |= {home_of(str(node.module), alias.name, root) for alias in node.names}
        for needed in sorted(needs[name]):
            visit(needed)
        found[name] = module

    visit(START)
    ordered: list[Module] = []
    while found:
        ready = [name for name in found if not needs[name] & found.keys()]
        ordered.append(found.pop(min(ready, key=lambda name: name[:4])))
    return ordered


def home_of(module: str, name: str, root: Path) -> str:
    """The module that defines a name which is imported from `module`, perhaps a package that only passes it on."""
    if "." in module:
        return module
    for node in read(module, root).imports():
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return str(node.module)
    raise UserError(f"solutions/{module}/__init__.py does not import {name}")


def block(module: Module) -> str:
    """A module without its imports, the beginning of its docstring as a comment under its name."""
    chapter, _, file = module.name.partition(".")
    body = module.tree.body
    summary = (ast.get_docstring(module.tree) or "").partition("\n\n")[0]
    first = next(node for node in body[1:] if not isinstance(node, ast.Import | ast.ImportFrom))
    start = body[body.index(first) - 1].end_lineno or 0
    lines = dict(enumerate(module.lines[start:], start + 1))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            shorten_docstring(node, lines)
    kept = without_markers([*lines.values()])
    title = f"# ==== chapter {int(chapter[2:4])}: {file}.py "
    head = [title.ljust(WIDTH, "="), *textwrap.wrap(summary, WIDTH, initial_indent="# ", subsequent_indent="# ")]
    return "\n".join(head) + "\n\n\n" + "\n".join(kept).strip("\n")


def shorten_docstring(node: ast.FunctionDef | ast.ClassDef, lines: dict[int, str]) -> None:
    """Cut a docstring behind its first paragraph. `lines` are those of its module, by number."""
    if ast.get_docstring(node) is None:
        return
    first, last = node.body[0].lineno, node.body[0].end_lineno or 0
    blank = next((number for number in range(first, last) if not lines[number].strip()), None)
    if blank is None:
        return
    if len(lines[blank - 1]) + 3 > WIDTH:
        lines[blank] = " " * node.body[0].col_offset + '"""'
        blank += 1
    else:
        lines[blank - 1] += '"""'
    for number in range(blank, last + 1):
        del lines[number]


def one_file(root: Path = ROOT) -> str:
    """The text of the file.

    Raises:
        UserError: two modules define the same name.
    """
    modules = in_order(root)
    owner: dict[str, str] = {}
    for module in modules:
        for name in module.defined():
            if name in owner:
                raise UserError(f"{name} is defined in solutions/{owner[name]} and in solutions/{module.name}")
            owner[name] = module.name
    outside = [
        (module.name, node)
        for module in modules
        for node in module.imports()
        if not (isinstance(node, ast.ImportFrom) and is_chapter(node.module))
    ]
    blocks = "\n\n\n".join(block(module) for module in modules)
    return f"{HEAD}{merged(outside)}\n\n{blocks}\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m toolkit.commands.one_file", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if it is out of date")
    options = parser.parse_args()
    text, target = one_file(), ROOT / TARGET
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        print(f"{TARGET} is up to date")
        return 0
    if options.check:
        print(f"{TARGET} is out of date; make it with: python -m toolkit.commands.one_file")
        return 1
    write_whole(target, text)
    print(f"wrote {TARGET}, {text.count(chr(10))} lines")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
