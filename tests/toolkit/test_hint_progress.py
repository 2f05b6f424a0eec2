"""Hints one by one, and the table of progress."""

import pytest

from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.hint import next_hint
from toolkit.commands.exercises.progress import table
from toolkit.errors import UserError

TOTAL = '    raise NotImplementedError("ch91 exercise 2: Add up")\n'


def test_hints_come_one_by_one(toy):
    """Each call shows the next of three hints; the fourth shows all and where the solution is."""
    assert next_hint("91.1", toy) == "91.1 Count: hint 1 of 3\n  nudge\nMore: make hint EX=91.1"
    assert next_hint("91.2", toy).splitlines()[1] == "  n"
    assert "hint 2 of 3\n  closer" in next_hint("91.1", toy)
    assert "hint 3 of 3\n  answer\nThen: make check EX=91.1" in next_hint("91.1", toy)
    last = next_hint("91.1", toy)
    assert "1. nudge\n  2. closer\n  3. answer\n" in last and last.endswith("solutions/ch91_second/counter.py.")


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("9.9", "their numbers go from 91.1 to 91.2"),
        ("91.9", "those of chapter 91 are 91.1, 91.2"),
        ("91", "those of chapter 91 are 91.1, 91.2"),
        ("counter", "their numbers go from 91.1 to 91.2"),
    ],
)
def test_unknown_exercise_is_one_line(toy, typed: str, answer: str):
    """An exercise that does not exist is answered with those of the same chapter."""
    with pytest.raises(UserError) as caught:
        next_hint(typed, toy)
    assert str(caught.value) == f"there is no exercise {typed!r}; {answer}"


@pytest.mark.parametrize("text", ["{", "[]", '{"hints": {"91.1": "x"}, "checks": {}}', "null"])
def test_a_broken_progress_file_is_put_aside(toy, capsys, text):
    """A file that cannot be understood is kept under another name, said so, and hints start over."""
    (toy / "my/.progress.json").write_text(text)
    assert "hint 1 of 3" in next_hint("91.1", toy)
    assert (toy / "my/.progress.json.broken").read_text() == text
    assert ".progress.json could not be read" in capsys.readouterr().err


def test_progress_follows_the_work(toy, edit):
    """The table tells not started, started, not checked, solved and edited since apart, and counts minutes."""
    next_hint("91.2", toy)
    text = table(toy)
    assert "91.1  Count   *      5 min  hints 0/3  not started" in text
    assert "91.2  Add up  **     7 min  hints 1/3  not started" in text
    assert text.endswith("0 of 2 exercises solved; about 12 minutes to go.")
    edit("    result = 0\n", "    result = 1\n")
    assert "hints 1/3  started" in table(toy)
    edit("    result = 1\n" + TOTAL, "    result = sum(numbers)\n")
    assert "hints 1/3  written, not checked" in table(toy)
    check("91", toy)
    text = table(toy)
    assert "hints 1/3  solved" in text and text.endswith("1 of 2 exercises solved; about 5 minutes to go.")
    edit("sum(numbers)", "sum(numbers) + 1")
    assert "edited since the last check" in table(toy)
    check("91.2", toy)
    assert "started, tests fail" in table(toy)
