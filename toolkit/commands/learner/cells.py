"""Merges notebooks cell by cell, as whole cells or the text in one, so that what comes out is always a notebook.

Outputs are the learner's; those of a cell whose text the course has changed are dropped.
"""

import copy
from difflib import SequenceMatcher

import nbformat
from nbformat import NotebookNode

from toolkit.commands.learner.texts import merge_texts

_ALIKE = 0.5  # share of the text that two cells must have in common to be versions of one


def merge_notebooks(base: str, mine: str, new: str) -> str | None:
    """The learner's notebook with the course's changes, as JSON; None where a cell would need both of two texts.

    None too where the learner has put cells into another order, or where their file is no notebook.
    """
    try:
        before, theirs, now = (nbformat.reads(text, as_version=4) for text in (base, mine, new))
    except Exception:  # nbformat raises its own errors, those of json and of jsonschema
        return None
    cells = _merge(before.cells, theirs.cells, now.cells)
    if cells is None:
        return None
    theirs.cells = cells
    theirs.nbformat, theirs.nbformat_minor = now.nbformat, max(now.nbformat_minor, theirs.nbformat_minor)
    return nbformat.writes(theirs) + "\n"


def _merge(base: list, mine: list, new: list) -> list | None:
    """The course's cells in its order, each as the learner has it, and the learner's own behind their neighbours."""
    to_mine = _same_ids(base, mine) or _pairs(base, mine)
    from_new = {j: i for i, j in _pairs(base, new).items()}
    if sorted(to_mine.values()) != [to_mine[i] for i in sorted(to_mine)]:
        return None
    merged: list[tuple[NotebookNode, int | None]] = []  # a cell, and which one of the learner's it was
    for j, cell in enumerate(new):
        i = from_new.get(j)
        at = None if i is None else to_mine.get(i)
        if i is None or (at is None and base[i].source != cell.source):
            merged.append((cell, None))
        elif at is not None:
            both = merge_texts(f"{base[i].source}\n", f"{mine[at].source}\n", f"{cell.source}\n")
            if both.conflicts:
                return None
            merged.append((_with(mine[at], both.text.removesuffix("\n"), cell.get("id")), at))
    taken = {at for _, at in merged}
    of_base = {at: i for i, at in to_mine.items()}
    for at, cell in enumerate(mine):
        dropped_by_course = at in of_base and cell.source == base[of_base[at]].source
        if at not in taken and not dropped_by_course:
            _insert_behind_its_neighbour(merged, cell, at)
    return _with_ids_of_their_own([cell for cell, _ in merged])


def _insert_behind_its_neighbour(merged: list[tuple[NotebookNode, int | None]], cell: NotebookNode, at: int) -> None:
    before = [number for number, (_, other) in enumerate(merged) if other is not None and other < at]
    merged.insert(before[-1] + 1 if before else 0, (cell, at))


def _with(cell: NotebookNode, source: str, id_: str | None) -> NotebookNode:
    cell = copy.deepcopy(cell)
    if cell.source != source and cell.cell_type == "code":
        cell.outputs, cell.execution_count = [], None
    cell.source = source
    if id_:  # by which the next update finds it
        cell["id"] = id_
    return cell


def _with_ids_of_their_own(cells: list[NotebookNode]) -> list[NotebookNode]:
    seen: set[str] = set()
    for number, cell in enumerate(cells):
        if cell.get("id", "") in seen | {""}:
            cell["id"] = f"own-{number}"
            while cell["id"] in seen:
                cell["id"] += "x"
        seen.add(cell["id"])
    return cells


def _same_ids(base: list, mine: list) -> dict[int, int]:
    """Index in base -> index in mine, by the cells' ids; nothing where the learner's editor has not kept them."""
    at = {cell.get("id"): number for number, cell in enumerate(mine)}
    found = {i: at[cell.id] for i, cell in enumerate(base) if cell.get("id") in at}
    return found if 2 * len(found) > len(base) else {}


def _pairs(one: list, other: list) -> dict[int, int]:
    """Index -> index of cells that are the same, or versions of the same between two that are."""
    keys, others = ([(cell.cell_type, cell.source) for cell in cells] for cells in (one, other))
    found: dict[int, int] = {}
    for tag, i, i_end, j, j_end in SequenceMatcher(None, keys, others, autojunk=False).get_opcodes():
        if tag == "equal":
            found |= zip(range(i, i_end), range(j, j_end), strict=True)
            continue
        for k in range(i, i_end):
            alike = (number for number in range(j, j_end) if _are_alike(one[k], other[number]))
            if (partner := next(alike, None)) is not None:
                found[k], j = partner, partner + 1
    return found


def _are_alike(one: NotebookNode, other: NotebookNode) -> bool:
    if one.cell_type != other.cell_type:
        return False
    return SequenceMatcher(None, one.source, other.source, autojunk=False).ratio() >= _ALIKE
