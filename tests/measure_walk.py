"""How far one has to walk to read a step of the full engine.

    python -m tests.measure_walk

A steady step of FullEngine with one request is watched on the simulated GPU. *Engine files* are files of the chapters
whose names say engine, executor, book or loop. A *change* is counted at each call and each return that enters another
engine file than the one before; files of other kinds in between do not count. Below `step` itself nothing is left out.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
SOLUTIONS = ROOT / "solutions"
ENGINE_FILE = re.compile(r"engine|executor|book|loop")


def is_engine_file(path: Path) -> bool:
    return bool(ENGINE_FILE.search(path.stem)) and path.parent.name.startswith("ch")


def changes(visits: list[Path]) -> int:
    """How often the file is another one than before."""
    return sum(before != after for before, after in zip(visits, visits[1:], strict=False))


def walk(call: Callable[[], object], is_counted: Callable[[Path], bool]) -> list[Path]:
    """The counted files in which code runs during a call, in order: one entry for each call and each return."""
    stack: list[Path] = []
    visits: list[Path] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            stack.append(Path(frame.f_code.co_filename))
        elif event == "return" and stack:
            stack.pop()
        else:
            return
        if stack and is_counted(stack[-1]):
            visits.append(stack[-1])

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    return visits


def steady_step() -> Callable[[], object]:
    """`step` of a full engine with one request, in the middle of it."""
    from ch02_continuous_batching import SamplingParams
    from ch08_full_engine import FullEngine
    from tests.helpers import tiny_model

    engine = FullEngine(tiny_model())
    engine.add_request("0", [1, 2, 3], SamplingParams(max_tokens=12, ignore_eos=True))
    for _ in range(5):
        engine.step()
    return engine.step


def engine_classes() -> dict[str, ast.ClassDef]:
    """The classes of all engine files, by name; the museum is none of the engine's."""
    files = [path for path in sorted(SOLUTIONS.glob("ch0[2-8]_*/*.py")) if is_engine_file(path)]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def ancestors(name: str, classes: dict[str, ast.ClassDef]) -> Iterator[str]:
    """The classes above a class, as far as they are among `classes`."""
    for base in classes[name].bases:
        above = ast.unparse(base).partition("[")[0]
        if above in classes:
            yield above
            yield from ancestors(above, classes)


def methods(node: ast.ClassDef) -> set[str]:
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef)}


def overridden(classes: dict[str, ast.ClassDef]) -> Counter[str]:
    """Method names that a class takes over from one above it and defines again, with how many define them."""
    again = {
        method
        for name, node in classes.items()
        for above in ancestors(name, classes)
        for method in methods(node) & methods(classes[above])
    }
    return Counter({method: sum(method in methods(node) for node in classes.values()) for method in again})


def code_lines(path: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    text = path.read_text(encoding="utf-8")
    lines = {n for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def main() -> None:
    from toolkit.course import use

    use("solutions")
    step = steady_step()
    visits = walk(step, is_engine_file)
    all_visits = walk(step, lambda path: path.is_relative_to(ROOT) and ".venv" not in path.parts)
    classes = engine_classes()
    again = overridden(classes)
    files = sorted(SOLUTIONS.glob("ch0[2-8]_*/*.py"))
    rows = {
        "engine files entered in a steady step": len(set(visits)),
        "changes between engine files": changes(visits),
        "files of the repository entered": len(set(all_visits)),
        "changes between files of the repository": changes(all_visits),
        "classes above an engine class, at most": max(len(list(ancestors(name, classes))) for name in classes),
        "method names overridden among engine classes": len(again),
        "definitions of these": sum(again.values()),
        "code lines of the engine files": sum(code_lines(path) for path in files if is_engine_file(path)),
        "code lines of chapters 2 to 8": sum(map(code_lines, files)),
    }
    for name, value in rows.items():
        print(f"{name:46} {value:5}")
    print("overridden:", ", ".join(f"{name} ({count})" for name, count in sorted(again.items())))


if __name__ == "__main__":
    main()
