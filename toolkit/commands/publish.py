"""Tell the course where it is published: links, badges, and the cells that let a lesson be opened in Colab.

    python -m toolkit.commands.publish https://github.com/OWNER/NAME

The address goes into pyproject.toml and CITATION.cff; README.md gets a line of badges, and each lesson two cells in
front (toolkit/commands/exercises/colab.py). Calling it again with another address replaces the earlier one.
"""

import argparse
import json
import re
from pathlib import Path

import nbformat

from toolkit.commands.exercises import colab
from toolkit.commands.exercises.lessons import MANIFEST, digest, lesson_paths, read_lesson, read_manifest
from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")
BADGES = re.compile(r"\n<!-- badges -->.*?<!-- /badges -->\n", re.S)


def publish(address: str, root: Path = ROOT) -> None:
    """Write the address wherever it is needed. Raises UserError if it is none of a repository on GitHub."""
    if not ADDRESS.fullmatch(address):
        raise UserError(f"{address!r} is no address such as https://github.com/OWNER/NAME")
    settings = read(root / "pyproject.toml")
    settings = re.sub(r'\n\[project\.urls\]\nrepository = "[^"]*"\n', "", settings)
    urls = f'\n[project.urls]\nrepository = "{address}"\n'
    write_whole(root / "pyproject.toml", settings.replace("\n[project.scripts]", f"{urls}\n[project.scripts]", 1))
    citation = re.sub(r"repository-code: .*\n", "", read(root / "CITATION.cff"))
    write_whole(root / "CITATION.cff", citation.replace("license:", f"repository-code: {address}\nlicense:", 1))
    readme = BADGES.sub("", read(root / "README.md"))
    title, _, rest = readme.partition("\n")
    write_whole(root / "README.md", f"{title}\n{badges(address, root)}{rest}")
    for lesson in lesson_paths(root):
        put_in_front(lesson, root)


def badges(address: str, root: Path) -> str:
    """README.md's line: what the public CI says, the licence, and each lesson in Colab."""
    ci = f"[![CI]({address}/actions/workflows/ci.yml/badge.svg)]({address}/actions/workflows/ci.yml)"
    licence = "[![Apache-2.0](https://img.shields.io/badge/licence-Apache--2.0-blue)](LICENSE)"
    lessons = " ".join(
        f"[{int(lesson.parent.name[2:4])}]({colab.badge(lesson.parent.name, address).rpartition('](')[2]}"
        for lesson in lesson_paths(root)
    )
    return f"\n<!-- badges -->\n{ci} {licence} Lessons in Colab: {lessons}\n<!-- /badges -->\n"


def put_in_front(lesson: Path, root: Path) -> None:
    """Give the lesson's notebook its first cells; its own keep their outputs."""
    path = lesson.with_suffix(".ipynb")
    built, stored = read_lesson(lesson), nbformat.read(path, as_version=4)
    own = len(built.cells) - len(colab.cells(lesson.parent.name, root))
    for cell, earlier in zip(built.cells[-own:], stored.cells[-own:], strict=True):
        if cell.cell_type == "code":
            cell["outputs"], cell["execution_count"] = earlier.outputs, earlier.execution_count
    built["metadata"] = stored.metadata
    write_whole(path, nbformat.writes(built) + "\n")
    digests = read_manifest(root) | {lesson.parent.name: digest(built)}
    write_whole(root / "chapters" / MANIFEST, json.dumps(digests, indent=1) + "\n")


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.publish", description="Tell the course where it is published."
    )
    parser.add_argument("address", metavar="ADDRESS", help="such as https://github.com/OWNER/NAME")
    address = parser.parse_args().address
    publish(address)
    print(f"{address} is in pyproject.toml, CITATION.cff, README.md, and in front of {len(lesson_paths())} lessons")


if __name__ == "__main__":
    exit_cleanly(main)
