"""An exercise file taken apart: the functions of its exercises, and the frame that is left around them.

parso reads it, which also finds the functions of a file that Python cannot read, as a learner's may be.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import parso
from parso.python.tree import Class, Function, Module
from parso.tree import BaseNode

from toolkit.commands.learner.texts import BETWEEN, COURSES, YOURS

# A line of a frame that stands for a function: its indent, and the function's key.
_MARK = re.compile("^( *)\x01(.+)\n", re.MULTILINE)
# In front of a line that holds something, and is not one of the marks around two versions.
_INDENT = re.compile(f"^(?!(?:{YOURS}|{BETWEEN}|{COURSES}))[ ]*(?=\\S)", re.MULTILINE)


@dataclass(frozen=True)
class FunctionText:
    """A function's lines `first` to `last` (from 1), decorators included.

    Attributes:
        head: everything up to its docstring; `body`: the rest.
        indent: in front of its first line.
    """

    head: str
    body: str
    indent: int
    first: int
    last: int

    @property
    def text(self) -> str:
        return self.head + self.body

    def shifted(self, indent: int) -> "FunctionText":
        """The same function elsewhere, at another indent."""
        by = indent - self.indent

        def shift(text: str) -> str:
            return _INDENT.sub(lambda found: " " * (len(found[0]) + by), text)

        return FunctionText(shift(self.head), shift(self.body), indent, self.first, self.last) if by else self


def functions_of(text: str) -> dict[str, FunctionText]:
    """Every module-level function and method of a source text, by its qualified name."""
    lines = parso.split_lines(text, keepends=True)
    return {name: _cut(node, lines) for name, node in _walk(parso.parse(text), "")}


def _walk(scope: Module | Class, prefix: str) -> Iterator[tuple[str, Function]]:
    for node in scope.iter_funcdefs():
        yield prefix + node.name.value, node
    for node in scope.iter_classdefs():
        yield from _walk(node, f"{prefix}{node.name.value}.")


def _cut(node: Function, lines: list[str]) -> FunctionText:
    outer: BaseNode = node
    while outer.parent and outer.parent.type in ("decorated", "async_funcdef", "async_stmt"):
        outer = outer.parent
    first, indent = outer.start_pos
    last = node.end_pos[0] - (node.end_pos[1] == 0)
    suite, doc = node.children[-1], node.get_doc_node()
    if suite.type != "suite":
        head_ends = last  # all of it on one line
    else:
        head_ends = doc.end_pos[0] if doc else suite.children[0].start_pos[0]
    return FunctionText("".join(lines[first - 1 : head_ends]), "".join(lines[head_ends:last]), indent, first, last)


def frame_of(text: str, keys: Mapping[str, str]) -> str:
    """The text with each function that has a key, by qualified name, replaced by one line that stands for it."""
    lines = parso.split_lines(text, keepends=True)
    found = {name: function for name, function in functions_of(text).items() if name in keys}
    for name, function in sorted(found.items(), key=lambda item: -item[1].first):
        lines[function.first - 1 : function.last] = [f"{' ' * function.indent}\x01{keys[name]}\n"]
    return "".join(lines)


def settle(base: list[str], mine: list[str], new: list[str]) -> list[str] | None:
    """For `merge_texts`: lines of a frame that both sides changed, where one of them has only moved functions."""
    words = [[line for line in lines if line.strip() and not _MARK.match(line)] for lines in (base, mine, new)]
    if words[0] == words[2]:
        return _with_moves(mine, base, new)
    return _with_moves(new, base, mine) if words[0] == words[1] else None


def _with_moves(lines: list[str], before: list[str], after: list[str]) -> list[str]:
    """The lines without the functions that are in `before` alone, and with those that are in `after` alone."""
    kept: list[str] = []
    for line in lines:
        if _MARK.match(line) and line in before and line not in after:
            while kept and not kept[-1].strip():  # the lines that kept it apart from what is above
                kept.pop()
        else:
            kept.append(line)
    above: list[str] = []
    below: list[str] = []
    come = above  # up to the first line that is no function's
    for line in after:
        found = _MARK.match(line)
        if found and line not in before + kept:
            come += ["\n" if found[1] else "\n\n", line]
        elif line.strip() and not found:
            come = below
    return above + kept + below


def keys_in(frame: str) -> set[str]:
    return {found[2] for found in _MARK.finditer(frame)}


def put_in(frame: str, functions: Mapping[str, FunctionText]) -> str:
    """The frame with each function, by key, in its place."""
    return _MARK.sub(lambda found: functions[found[2]].shifted(len(found[1])).text, frame)
