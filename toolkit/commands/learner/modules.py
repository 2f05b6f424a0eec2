"""Merges exercise files: the functions of exercises one by one, wherever they are, and what is around them by lines.

So a function that the course has moved, within its file or to another one, keeps the learner's code. The text of a
placeholder is the course's, and no edit; a docstring and the code below it are merged apart.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from toolkit.choice import MINE
from toolkit.commands.learner.functions import FunctionText, frame_of, functions_of, keys_in, put_in, settle
from toolkit.commands.learner.moves import Move
from toolkit.commands.learner.texts import Merged, merge_texts

_PLACEHOLDER = re.compile(r"raise NotImplementedError\(\"ch\d\d exercise \d+: .*\"\)")


@dataclass(frozen=True)
class MergedModule:
    """
    Attributes:
        notes: what a reader should look at, such as a function that is not in their file any more.
    """

    text: str
    conflicts: int
    notes: tuple[str, ...]


class ModuleMerge:
    """Three versions of all exercise files, path -> text: as shipped before, the learner's, and as shipped now.

    Where an update was interrupted, a function may be in its new place already, so it is looked for in both.
    """

    def __init__(
        self, base: Mapping[str, str], mine: Mapping[str, str], new: Mapping[str, str], moved: list[Move]
    ) -> None:
        self._base, self._mine, self._new = (
            {file: Taken(text, self._keys(file, moved)) for file, text in texts.items()} for texts in (base, mine, new)
        )
        self._moved = {str(number): move for number, move in enumerate(moved)}

    @staticmethod
    def _keys(file: str, moved: list[Move]) -> dict[str, str]:
        """Qualified name -> key, of the exercises' functions that are in a file, before or now."""
        places = [(str(number), at) for number, move in enumerate(moved) for at in (move.before, move.now)]
        return {at.function: key for key, at in places if at.file == file}

    def merge(self, file: str, before: str | None) -> MergedModule:
        """A file of the new release; `before` is its path in the release before, None if it was not there."""
        frame = Merged(self._new[file].frame)
        if before in self._base and before in self._mine:
            frame = merge_texts(self._base[before].frame, self._mine[before].frame, frame.text, settle)
        functions, conflicts, notes = {}, frame.conflicts, []
        for key, move in self._moved.items():
            base, mine, new = self._versions(move)
            if key in keys_in(frame.text):
                functions[key], more = merge_functions(base, mine, new)
                conflicts += more
                edited = base and mine and base.text != mine.text
                if edited and move.before.file not in (move.now.file, before):
                    came = f"your {move.now.function} is here now, from {MINE}/{move.before.file}"
                    notes.append(f"{came}: does it need other lines of yours from there?")
            elif move.now.file == file and base and base.text != new.text:
                notes.append(f"{move.before.function} is not in your file, and the course has changed it")
        return MergedModule(put_in(frame.text, functions), conflicts, tuple(notes))

    def _versions(self, move: Move) -> tuple[FunctionText | None, FunctionText | None, FunctionText]:
        base, mine = (_find(version, move) for version in (self._base, self._mine))
        return base, mine, self._new[move.now.file].functions[move.now.function]


class Taken:
    """A file taken apart."""

    def __init__(self, text: str, keys: Mapping[str, str]) -> None:
        text += "" if text.endswith("\n") else "\n"  # so that whatever follows a function begins a line
        self.functions = functions_of(text)
        self.frame = frame_of(text, keys)


def _find(version: Mapping[str, Taken], move: Move) -> FunctionText | None:
    for at in (move.before, move.now):
        if at.file in version and at.function in version[at.file].functions:
            return version[at.file].functions[at.function]
    return None


def merge_functions(
    base: FunctionText | None, mine: FunctionText | None, new: FunctionText
) -> tuple[FunctionText, int]:
    """The function as it should be, indented as the new one, and in how many places it holds two versions."""
    if base is None or mine is None:
        return new, 0
    base, mine = base.shifted(new.indent), mine.shifted(new.indent)
    head = merge_texts(base.head, mine.head, new.head)
    body = merge_texts(_worded_as(new, base.body), _worded_as(new, mine.body), new.body)
    return replace(new, head=head.text, body=body.text), head.conflicts + body.conflicts


def _worded_as(new: FunctionText, body: str) -> str:
    """A function's body whose placeholder, if it has one, is worded as in the new release."""
    found = set(_PLACEHOLDER.findall(new.body))
    return _PLACEHOLDER.sub(lambda _: found.pop(), body, count=1) if len(found) == 1 else body
