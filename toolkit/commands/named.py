"""Options that are lists of known names, such as --model 8b,1b."""

from toolkit.errors import UserError


def names_in(text: str, known: tuple[str, ...], option: str) -> list[str]:
    """The names in a list with commas. Raises UserError for one that is not known."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UserError(f"{option}: {name!r} is none of {', '.join(known)}")
    return names
