"""Keeps the line numbers that README.md and docs/ give for places in solutions/ up to date.

    python -m toolkit.commands.code_links

A place is named by a link, [`Class.method`](../solutions/file.py#L10), which is moved to the definition.
"""

import ast
import re
from pathlib import Path

from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

LINK = re.compile(r"\[`(?P<name>[\w.]+)`\]\((?P<up>[./]*)(?P<path>solutions/[\w/]+\.py)#L(?P<line>\d+)\)")


def line_of_definition(path: Path, name: str) -> int:
    """Where "function", "Class" or "Class.method" is defined, counted from 1.

    Raises:
        UserError: it is not defined there.
    """
    body = ast.parse(path.read_text(encoding="utf-8")).body
    node: ast.AST | None = None
    for part in name.split("."):
        found = [n for n in body if isinstance(n, Definition) and n.name == part]
        if not found:
            raise UserError(f"{path} does not define {name}")
        node, body = found[0], found[0].body
    assert isinstance(node, Definition)
    return node.lineno


def refreshed(text: str, root: Path = ROOT) -> str:
    """A page with the line numbers as they are now."""

    def link(match: re.Match[str]) -> str:
        line = line_of_definition(root / match["path"], match["name"])
        return f"[`{match['name']}`]({match['up']}{match['path']}#L{line})"

    return LINK.sub(link, text)


def main() -> int:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        before = page.read_text(encoding="utf-8")
        after = refreshed(before)
        if after != before:
            write_whole(page, after)
            print(f"refreshed {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
