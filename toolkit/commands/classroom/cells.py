"""Strangers' words in a table: what a terminal shows of them, and what a spreadsheet reads."""

MOST_SHOWN = 60
MOST_IN_CELL = 500
FORMULA = tuple("=+-@\t\r＝＋－＠")  # a spreadsheet takes a cell that begins so for a formula
JOINER = "\u200d"  # in emoji of several parts


def shown(text: str, most: int = MOST_SHOWN) -> str:
    """On one line, cut to a length, without what cannot be seen or turns the direction of writing."""
    visible = "".join(letter if letter.isprintable() or letter == JOINER else " " for letter in text[: 4 * most])
    line = " ".join(visible.split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1]}…"


def cell(value: str | float) -> str | float:
    """For a CSV file: a number stays one, and a text is shown as it is and never worked out."""
    if not isinstance(value, str):
        return value
    text = shown(value, MOST_IN_CELL)
    return f"'{text}" if text.lstrip("\u200d ").startswith(FORMULA) else text
