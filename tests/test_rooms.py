"""Arrows point one way: tests, figures, lessons, toolkit/commands -> chapters -> the rest of the toolkit.

Read from the text of the files, so imports inside functions and for type checkers count as well.
"""

import ast
import re
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from toolkit.course import ROOT

CHAPTER = re.compile(r"(?:solutions\.|chapters\.)?ch(\d\d)_\w+")
ABOVE = ("toolkit.commands", "figures", "tests")  # the chapters

Imports = dict[str, dict[str, int]]  # module -> imported module -> line


def imports_in(text: str, module: str, is_package: bool = False) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything that a module's text imports, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def read(*folders: str) -> Imports:
    """What every module below these folders of the repository imports, by full dotted names."""
    found: Imports = {}
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = path.name == "__init__.py"
            module = ".".join(parts[: len(parts) - is_package])
            found[module] = dict(imports_in(path.read_text(encoding="utf-8"), module, is_package))
    return found


def is_in(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def wrong(imports: Imports, is_wrong: Callable[[str, str], object]) -> list[str]:
    """ "module, line 7: imports x" for every import that is_wrong(module, x)."""
    return [
        f"{module}, line {line}: imports {name}"
        for module, names in imports.items()
        for name, line in names.items()
        if is_wrong(module, name)
    ]


def circles(imports: Imports) -> list[set[str]]:
    """Modules that import each other, one circle after the other until none is left. Bare chapters are solutions."""
    arrows = {module: {own for name in names if (own := _own(name, imports))} for module, names in imports.items()}
    found: list[set[str]] = []
    while True:
        try:
            TopologicalSorter({module: targets - {module} for module, targets in arrows.items()}).prepare()
            return found
        except CycleError as error:
            circle = error.args[1]
            found.append(set(circle))
            for module in circle:
                arrows[module] -= set(circle)


def _own(name: str, imports: Imports) -> str:
    """The module that an imported name means: itself, or the one that it is a part of; "" if it is none of ours."""
    if re.match(r"ch\d\d_", name):
        name = f"solutions.{name}"
    while name and name not in imports:
        name = name.rpartition(".")[0]
    return name


BELOW = {module: names for module, names in read("toolkit").items() if not is_in(module, ABOVE)}


def test_the_toolkit_below_imports_no_chapter_and_nothing_from_above():
    """toolkit/, its commands aside, knows no chapter: chapters are built on it."""
    assert BELOW
    assert not wrong(BELOW, lambda module, name: CHAPTER.match(name) or is_in(name, (*ABOVE, "solutions", "chapters")))


def test_the_simulated_gpu_imports_nothing_of_the_toolkit():
    """toolkit/simgpu is a library of its own: torch, numpy, and itself. (Its benchmark has a model of transformers.)

    Its command, which is no part of the library, asks the timeline for a page, and does without where there is none.
    """
    simgpu = {module: names for module, names in BELOW.items() if is_in(module, ("toolkit.simgpu",))}
    assert len(simgpu) > 20
    simgpu["toolkit.simgpu.__main__"].pop("toolkit.timeline.program_page.write_program_page")
    assert not any("toolkit.simgpu.__main__" in names for names in BELOW.values())
    assert not wrong(simgpu, lambda module, name: is_in(name, ("toolkit",)) and not is_in(name, ("toolkit.simgpu",)))
    outside = {name.split(".")[0] for module, names in simgpu.items() if "overhead" not in module for name in names}
    assert outside & {"torch", "numpy", "transformers", "matplotlib"} == {"torch", "numpy"}


@pytest.mark.parametrize("folder", ["solutions", "chapters"])
def test_a_chapter_imports_earlier_chapters_and_the_toolkit_below(folder):
    """Lessons, which run the commands and show their results, are above."""
    modules = {module: names for module, names in read(folder).items() if not module.endswith(".lesson")}
    assert any(CHAPTER.match(module) for module in modules)

    def is_wrong(module: str, name: str) -> bool:
        own, other = CHAPTER.match(module), CHAPTER.match(name)
        return is_in(name, ABOVE) or bool(own and other and other[1] > own[1])

    assert not wrong(modules, is_wrong)


def test_there_is_no_circle_of_imports():
    """No file imports, by whatever way round, a file that imports it."""
    assert circles(read("toolkit", "solutions", "figures", "tests")) == []


def test_every_kind_of_import_is_seen():
    """At the top, in functions, for type checkers, relative ones, and those of a package's own __init__."""
    text = """
import a.b
from a import c
if TYPE_CHECKING:
    from . import d
def f():
    from ..e import g
"""
    assert [name for name, _ in imports_in(text, "x.y.z")] == ["a.b", "a.c", "x.y.d", "x.e.g"]
    assert [name for name, _ in imports_in("from . import d", "x.y", is_package=True)] == ["x.y.d"]
    seen = wrong({"toolkit.eos": {"tests.x": 7, "testsuite": 8}}, lambda module, name: is_in(name, ABOVE))
    assert seen == ["toolkit.eos, line 7: imports tests.x"]


def test_circles_are_found():
    """Long ones and short ones, by a name that lies in a module, and by a chapter's bare name."""
    assert circles({"a": {"b.name": 1}, "b": {"c": 1}, "c": {"d": 1}, "d": {}}) == []
    assert circles({"a": {"b.name": 1}, "b": {"c": 1}, "c": {"a": 1}}) == [{"a", "b", "c"}]
    chapter = {"solutions.ch01_x.a": {"ch01_x.b.f": 1}, "solutions.ch01_x.b": {"ch01_x.a": 1}}
    assert circles(chapter) == [set(chapter)]
    assert len(circles({"a": {"b": 1}, "b": {"a": 1}, "c": {"d": 1}, "d": {"c": 1}})) == 2
