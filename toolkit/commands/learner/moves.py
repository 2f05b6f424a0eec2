"""Finds an exercise's functions, and its file, again in another release."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from toolkit.commands.learner.shipped import Place


@dataclass(frozen=True)
class At:
    """A function: the path of its file inside my/, and its qualified name."""

    file: str
    function: str


@dataclass(frozen=True)
class Move:
    """The same function of an exercise, in the release before and in the new one; it need not have moved."""

    before: At
    now: At


def moves(before: Mapping[str, Place], after: Mapping[str, Place]) -> list[Move]:
    """Which function is which. By the exercise's id and the function's name; then by one of the two.

    The name alone decides where exercises were renumbered: it must be that of one function of the chapter. The id alone
    decides where a function was renamed: the other name must be unknown to the other release.
    """
    old = {(id_, name): At(place.file, name) for id_, place in before.items() for name in place.functions}
    new = {(id_, name): At(place.file, name) for id_, place in after.items() for name in place.functions}
    found = {key: old[key] for key in new.keys() & old.keys()}
    for key in sorted(new.keys() - found.keys()):
        left = [at for at in old.values() if at not in found.values()]
        named = [at for at in left if (_chapter(at), at.function) == (_chapter(new[key]), new[key].function)]
        named = [at for at in named if at.file == new[key].file] or named
        if len(named) == 1:
            found[key] = named[0]
    old_names, new_names = {at.function for at in old.values()}, {at.function for at in new.values()}
    for id_, place in after.items():
        if id_ in before and len(before[id_].functions) == len(place.functions):
            for name_before, name in zip(before[id_].functions, place.functions, strict=True):
                if (id_, name) not in found and name not in old_names and name_before not in new_names:
                    found[id_, name] = old[id_, name_before]
    by_place = {new[key]: found[key] for key in new if key in found}  # two exercises may share a function
    return [Move(at, now) for now, at in by_place.items()]


def files_before(moved: list[Move], before: Collection[str], now: Collection[str]) -> dict[str, str]:
    """New path -> old path, of every file of `now`, for which `before` has one.

    A file that is new took the place of one that is gone if most of its exercises' functions come from there, or if
    both are the lesson of the chapter of one number.
    """
    found = {}
    for file in now:
        if file in before:
            found[file] = file
            continue
        from_files = Counter(move.before.file for move in moved if move.now.file == file)
        if file.endswith("lesson.ipynb"):
            from_files = Counter(old for old in before if old.endswith("lesson.ipynb") and old[:4] == file[:4])
        gone = [old for old, _ in from_files.most_common() if old in before and old not in now]
        if gone and gone[0] not in found.values():
            found[file] = gone[0]
    return found


def _chapter(at: At) -> str:
    return at.file[:4]  # such as "ch02": its name may change
