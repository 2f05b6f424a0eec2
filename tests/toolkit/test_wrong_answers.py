"""The page for helpers: it is what the command writes, and what it quotes can be read."""

import pytest

from toolkit.commands.exercises.metadata import load
from toolkit.commands.exercises.wrong_answers import PAGE, page, quoted, read_questions, readable
from toolkit.course import ROOT
from toolkit.errors import UserError

WRITTEN = (ROOT / PAGE).read_text(encoding="utf-8")


def test_the_page_is_up_to_date():
    """`python -m toolkit.commands.exercises.wrong_answers`, which `make exercises` runs, would change nothing."""
    assert page() == WRITTEN


def test_each_exercise_has_questions_and_three_or_four_wrong_answers():
    """One or two things to say to a learner, of which one at least is a question."""
    questions = read_questions(ROOT)
    assert list(questions) == list(load(ROOT))
    for id_, (asked, names) in questions.items():
        assert 1 <= len(asked) <= 2 and any("?" in question for question in asked), id_
        assert 3 <= len(names) <= 4 and len(set(names)) == len(names), id_


def test_no_question_gives_the_answer():
    """None holds what the last hint has in code: a call or an assignment of the solution."""
    exercises = load(ROOT)
    for id_, (asked, _) in read_questions(ROOT).items():
        code = {piece.strip(" .,;") for piece in exercises[id_].hints[2].split() if "(" in piece and "." in piece}
        given = [piece for piece in code for question in asked if piece in question]
        assert not given, f"{id_}: {given}"


@pytest.mark.parametrize(
    ("says", "words"),
    [
        ("Round up, not down", "Round up, not down"),
        (r"now\(\) gives seconds", "now() gives seconds"),
        ("RACE on x(.|\n)*h2d.wait_event\\(it\\)", "RACE on x … h2d.wait_event(it)"),
        (r"at solutions/ch04_events/repairs.py:\d+[^R]*tolist", "at my/ch04_events/repairs.py:N … tolist"),
        (r"(query_start_loc|seq_lens) holds", "query_start_loc holds"),
        (r"^gave batch 2 buffers\[1\]$", "gave batch 2 buffers[1]"),
        ("differ from generate.s", "differ from generate's"),
    ],
)
def test_a_regular_expression_as_words(says, words):
    assert readable(says) == words


def test_alternatives_are_quoted_one_by_one():
    """Those between parentheses are part of one text."""
    assert quoted("IndexError|must raise (.|\n)*Error") == '"IndexError" or "must raise … Error"'


def test_no_cell_shows_a_regular_expression():
    quotes = [line for line in WRITTEN.splitlines() if line.startswith("| ")]
    assert len(quotes) > 200
    assert not [line for line in quotes if any(mark in line for mark in ("\\d", ".*", "(.", "[^", "\\(", "\\[", "|)"))]


def test_a_name_that_is_not_there_is_an_error(monkeypatch):
    """And so is an exercise that is left out."""
    names = "toolkit.commands.exercises.wrong_answers.read_questions"
    questions = read_questions(ROOT)
    monkeypatch.setattr(names, lambda root: questions | {"0.1": (["?"], ["no_such_mutant"])})
    with pytest.raises(UserError, match=r"exercise 0\.1 has no mutant no_such_mutant"):
        page()
    monkeypatch.setattr(names, lambda root: {id_: each for id_, each in questions.items() if id_ != "2.3"})
    with pytest.raises(UserError, match=r"nothing about exercise 2\.3"):
        page()
