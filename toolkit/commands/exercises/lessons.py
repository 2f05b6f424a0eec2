"""Builds each chapter's lesson.ipynb from lesson.py, the text that is written by hand, and executes it.

    python -m toolkit.commands.exercises.lessons 0 2       # build these chapters' notebooks; without a number: all
    python -m toolkit.commands.exercises.lessons --check   # build nothing; exit code 1 where a notebook's cells differ

A notebook whose cells a reader has changed is kept, unless --overwrite says otherwise. How its cells were when it was
built is remembered in chapters/.lessons.json.

Committed notebooks hold outputs, made with the reference solutions. What differs from run to run for no reason
(identifiers, times, this machine's folders) is taken out, so that a diff shows only what a reader would see.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from toolkit.commands.exercises import colab
from toolkit.commands.exercises.folded import tag_answers
from toolkit.course import ROOT, find_chapter
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

CELL_SECONDS = 600
MANIFEST = ".lessons.json"  # in chapters/: a chapter's name -> digest of its notebook's cells as built last


def lesson_paths(root: Path = ROOT) -> list[Path]:
    """The lesson.py of every chapter that has one."""
    return sorted((root / "chapters").glob("ch*_*/lesson.py"))


def execute(lesson: Path, settings: dict[str, str] | None = None) -> NotebookNode:
    """The lesson as a notebook with outputs, run in its own folder with the reference solutions.

    Args:
        settings: environment variables for the lesson, besides COURSE_CODE=solutions.

    Raises:
        UserError: a cell raised an exception; the message ends with that exception.
    """
    notebook = read_lesson(lesson)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(lesson.parent)}}
    )
    try:
        client.execute(env={**os.environ, "COURSE_CODE": "solutions", **(settings or {})})
    except CellExecutionError as error:
        raise UserError(f"{lesson.parent.name}/{lesson.name}: a cell failed:\n{error}") from None
    return notebook


def read_lesson(lesson: Path) -> NotebookNode:
    """The lesson's cells, not executed, behind those for Colab; ids count from 0, the same every time."""
    notebook = jupytext.read(lesson)
    notebook.cells = colab.cells(lesson.parent.name, lesson.parents[2]) + notebook.cells
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        cell["metadata"] = NotebookNode()
    notebook["metadata"] = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    tag_answers(notebook)
    return notebook


def strip_volatile(notebook: NotebookNode, root: Path = ROOT) -> None:
    """Take out what another run or another machine would write differently."""
    notebook["metadata"]["language_info"] = NotebookNode(name="python")
    for cell in notebook.cells:
        cell["metadata"] = NotebookNode({"tags": cell.metadata.tags} if "tags" in cell.metadata else {})
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = output["text"].replace(f"{root}{os.sep}", "")
            if "text/plain" in output.get("data", {}):
                output["data"]["text/plain"] = output["data"]["text/plain"].replace(f"{root}{os.sep}", "")


def build(lesson: Path, root: Path = ROOT) -> Path:
    """Execute a lesson and write the notebook beside it; a lesson that fails leaves the old notebook as it was."""
    target = lesson.with_suffix(".ipynb")
    if not os.access(lesson.parent, os.W_OK):  # known before minutes of running its cells
        raise UserError(f"cannot write {target}: its folder is read-only")
    notebook = execute(lesson)
    strip_volatile(notebook, root)
    write_whole(target, nbformat.writes(notebook) + "\n")
    digests = read_manifest(root) | {lesson.parent.name: digest(notebook)}
    write_whole(root / "chapters" / MANIFEST, json.dumps(digests, indent=1) + "\n")
    return target


def read_manifest(root: Path = ROOT) -> dict[str, str]:
    path = root / "chapters" / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def digest(notebook: NotebookNode) -> str:
    """Changes when a cell is edited, added or taken away; outputs do not count."""
    cells = [(cell.cell_type, cell.source) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def is_edited(lesson: Path, root: Path = ROOT) -> bool:
    """Whether the lesson's notebook holds cells that are not the course's: a reader's work, never to be lost."""
    target = lesson.with_suffix(".ipynb")
    if not target.is_file():
        return False
    try:
        seen = digest(nbformat.read(target, as_version=4))
    except Exception:  # it is no notebook (any more): whatever it is, it was not built here
        return True
    return seen not in (read_manifest(root).get(lesson.parent.name), digest(read_lesson(lesson)))


def find_difference(lesson: Path) -> str | None:
    """Where the notebook's cells are not those of lesson.py; None if they are. Outputs are not compared."""
    name = f"{lesson.parent.name}/lesson.ipynb"
    target = lesson.with_suffix(".ipynb")
    if not target.is_file():
        return f"{name} is missing"
    expected = [(cell.cell_type, cell.source.strip()) for cell in read_lesson(lesson).cells]
    seen = [(cell.cell_type, cell.source.strip()) for cell in nbformat.read(target, as_version=4).cells]
    if len(seen) != len(expected):
        return f"{name} has {len(seen)} cells, and lesson.py has {len(expected)}"
    for number, (one, other) in enumerate(zip(seen, expected, strict=True), start=1):
        if one != other:
            return f"{name}: cell {number} is not that of lesson.py, which starts with {other[1][:60]!r}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.lessons", description=__doc__.split("\n")[0]
    )
    parser.add_argument("chapters", nargs="*", help="numbers; without one, all chapters")
    parser.add_argument("--check", action="store_true", help="only compare the notebooks' cells with lesson.py")
    parser.add_argument("--overwrite", action="store_true", help="replace edited notebooks too, losing the edits")
    options = parser.parse_args()
    lessons = lesson_paths()
    if options.chapters:
        wanted = [find_chapter(text) for text in options.chapters]
        lessons = [lesson for lesson in lessons if lesson.parent.name in wanted]
    if not lessons:
        raise UserError("there is no lesson.py to build in chapters/")
    if options.check:
        differences = [difference for lesson in lessons if (difference := find_difference(lesson))]
        print("\n".join(differences) or "every notebook has the cells of its lesson.py")
        return 1 if differences else 0
    for lesson in lessons:
        if is_edited(lesson) and not options.overwrite:
            print(f"kept chapters/{lesson.parent.name}/lesson.ipynb, which was edited: rename it, or add --overwrite")
            continue
        print(f"{lesson.parent.name}: running ...", flush=True)
        print(f"  wrote {build(lesson).relative_to(ROOT).as_posix()}")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
