"""Which outputs of a lesson answer a prediction: where lessons are published, these are folded until a reader asks.

A cell between `x = guess(...)` and `x.compare(...)`, and the one with the comparison, get the tag "hide-output", which
MyST and Jupyter Book understand. A code host's view of a notebook folds nothing.
"""

import ast

from nbformat import NotebookNode

from toolkit.errors import UserError

TAG = "hide-output"


def tag_answers(notebook: NotebookNode) -> None:
    """Tag the code cells whose output answers a guess that was made in a cell before.

    Raises:
        UserError: a guess is never compared, or compared before it is made.
    """
    waiting: set[str] = set()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        made, compared = _guesses(cell.source)
        if early := compared - waiting:
            raise UserError(f"{early.pop()} is compared with a result, but was not guessed in a cell before")
        if waiting:
            cell.metadata["tags"] = [TAG]
        waiting = (waiting - compared) | made
    if waiting:
        raise UserError(f"{waiting.pop()} is guessed and never compared with a result")


def _guesses(source: str) -> tuple[set[str], set[str]]:
    """The names of the guesses that a cell makes, and of those that it compares."""
    made, compared = set(), set()
    lines = (line for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    for node in ast.walk(ast.parse("\n".join(lines))):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="guess"))):
                made.add(name)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="compare")):
                compared.add(name)
    return made, compared
