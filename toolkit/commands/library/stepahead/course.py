"""Whose code runs: in the course the learner's or the reference, chosen with `use`; here there is one code only."""

from toolkit.choice import ROOT, Choice

__all__ = ["ROOT", "Choice", "current", "use"]


def current() -> Choice | None:
    """The choice that was made: none."""
    return None


def use(code: str, chapter: str | None = None, fill: bool = False) -> None:
    """There is nothing to choose."""
