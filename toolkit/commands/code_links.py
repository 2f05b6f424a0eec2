"""Keeps the line numbers that README.md and docs/ give for places in solutions/ up to date.

    python -m toolkit.commands.code_links

Two forms are known: a link [`Class.method`](../solutions/file.py#L10), which is moved to the definition, and a quoted
line at solutions/file.py:10  `code` of a race report, which is moved to the line that begins like the code.
"""

import ast
import re
from pathlib import Path

from toolkit.course import ROOT
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

LINK = re.compile(r"\[`(?P<name>[\w.]+)`\]\((?P<up>[./]*)(?P<path>solutions/[\w/]+\.py)#L(?P<line>\d+)\)")
QUOTE = re.compile(r"at (?P<path>solutions/[\w/]+\.py):(?P<line>\d+)  `(?P<code>[^`]*)`")


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


def line_of_code(path: Path, code: str) -> int:
    """The first line that begins like `code`, of which a report leaves the end out as "...)"; counted from 1.

    Raises:
        UserError: there is no such line.
    """
    begins = code.removesuffix("...)")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip().startswith(begins):
            return number
    raise UserError(f"{path} has no line that begins with {begins}")


def refreshed(text: str, root: Path = ROOT) -> str:
    """A page with the line numbers as they are now."""

    def link(match: re.Match[str]) -> str:
        line = line_of_definition(root / match["path"], match["name"])
        return f"[`{match['name']}`]({match['up']}{match['path']}#L{line})"

    def quote(match: re.Match[str]) -> str:
        return f"at {match['path']}:{line_of_code(root / match['path'], match['code'])}  `{match['code']}`"

    return QUOTE.sub(quote, LINK.sub(link, text))


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
