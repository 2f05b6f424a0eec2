"""Causes in the messages of checks: one is named only where it was looked for."""


def likely(*causes: tuple[bool, str], otherwise: str = "") -> str:
    """The text of the first cause that holds, `otherwise` if none does: the end of a message."""
    return next((text for holds, text in causes if holds), otherwise)


def has_result(value: object, call: str) -> None:
    """A function without `return` gives None, which any later comparison would report as something else."""
    assert value is not None, f"{call} returned None: is `return` missing?"
