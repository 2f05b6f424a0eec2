"""A lesson's predictions: taken, compared, listed, and folded where they are published; and each lesson has some."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from toolkit.commands.exercises.folded import TAG, tag_answers
from toolkit.commands.exercises.lessons import lesson_paths
from toolkit.commands.exercises.metadata import load
from toolkit.errors import UserError
from toolkit.predictions import guess, list_guesses


@pytest.mark.parametrize(
    ("said", "measured", "unit", "result"),
    [
        (..., 12.5, "%", "no guess; it is 12.5 %"),
        (10, 12.5, "%", "you said 10 %; it is 12.5 %: 2.5 points apart"),
        (100, 112, "rows", "you said 100 rows; it is 112 rows: 12% apart"),
        (4, 4.0, "", "you said 4; it is 4: exactly"),
        (20, 2, "ms", "you said 20 ms; it is 2 ms: a factor of 10.0 apart"),
        (0, 3, "ms", "you said 0 ms; it is 3 ms: 3 ms apart"),
        (0, 3, "", "you said 0; it is 3: 3 apart"),
        ("Scheduler", "scheduler", "", "you said Scheduler; it is scheduler: right"),
        (["b", "a"], ("a", "b"), "", "you said b, a; it is a, b: right"),
        (["a"], ("a", "b"), "", "you said a; it is a, b: not so"),
    ],
)
def test_a_guess_is_compared_with_what_was_measured(said, measured, unit, result, capsys):
    """A number's distance, in points for shares; words in any order and case; dots are no guess."""
    guess("how much", said).compare(measured, unit)
    assert capsys.readouterr().out == f"how much\n    {result}\n"


@pytest.mark.parametrize(("said", "measured", "wanted"), [("ten", 10, "a number"), (10, "ten", "words in quotes")])
def test_a_guess_of_the_wrong_kind_is_named(said, measured, wanted):
    """Words where a number is asked for, and a number where words are."""
    with pytest.raises(UserError, match=f"the guess to 'how much' is {said!r}; it must be {wanted}"):
        guess("how much", said).compare(measured)


def test_the_list_has_every_question_once_with_its_last_guess(capsys):
    """A cell that is run twice does not double its question."""
    guess("a question of this test alone", 1)
    guess("a question of this test alone", 2)
    list_guesses()
    assert capsys.readouterr().out.count("a question of this test alone\n    not measured yet") == 1


def lesson(*sources):
    return new_notebook(cells=[new_markdown_cell("guess"), *(new_code_cell(source) for source in sources)])


def test_outputs_between_guess_and_comparison_are_folded():
    """Two guesses that overlap: folded from behind the first guess to the last comparison, nothing before or after."""
    notebook = lesson("a = guess('x', ...)", "b = guess('y', ...)", "a.compare(1)", "%time 1\nb.compare(2)", "1")
    tag_answers(notebook)
    assert [cell.metadata.get("tags") for cell in notebook.cells] == [None, None, [TAG], [TAG], [TAG], None]


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        (["a = guess('x', ...)"], "a is guessed and never compared"),
        (["a.compare(1)", "a = guess('x', ...)"], "a is compared with a result, but was not guessed"),
        (["a = guess('x', ...)\na.compare(1)"], "a is compared with a result, but was not guessed in a cell before"),
    ],
)
def test_a_guess_without_its_comparison_is_refused(sources, says):
    """A lesson with a question that is never answered, or answered too early, is not built."""
    with pytest.raises(UserError, match=says):
        tag_answers(lesson(*sources))


LESSONS = lesson_paths()


@pytest.mark.parametrize("path", LESSONS, ids=[path.parent.name for path in LESSONS])
def test_each_lesson_asks_its_reader(path):
    """At least four guesses on the way, and three questions with folded answers at the end."""
    text = path.read_text(encoding="utf-8")
    guesses = re.findall(r"^\w+ = guess\(", text, re.MULTILINE)
    assert len(guesses) >= 4, f"only {len(guesses)} guesses"
    questions = text.partition("Check yourself\n")[2].count("<details><summary>")
    assert questions >= 3, f"only {questions} questions behind the heading 'Check yourself'"


@pytest.mark.parametrize("path", LESSONS, ids=[path.parent.name for path in LESSONS])
def test_each_exercise_is_asked_for_with_the_file_to_edit(path):
    """The learner's file, with its folder: there is one of that name in chapters/ and in solutions/, too."""
    text = path.read_text(encoding="utf-8").replace("\n# ", " ")
    ours = [each for each in load().values() if each.chapter == path.parent.name and not each.is_bug]
    assert ours and [each.path for each in ours if f"`{each.path}`" not in text] == []
