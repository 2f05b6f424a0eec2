"""Exercises that ship a bug, on the toy course: what the learner gets, and how each command treats it."""

import pytest

from toolkit import course
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.hint import next_hint, take_guess
from toolkit.commands.exercises.learner import look_at
from toolkit.commands.exercises.metadata import load, validate
from toolkit.commands.exercises.mutants import Mutant, find_escape, find_gap
from toolkit.commands.exercises.progress import table
from toolkit.commands.learner.update import update
from toolkit.errors import UserError

MEAN = '''"""The mean, in a sub-package."""


def mean(numbers):
    """The mean; of nothing it is 0."""
    # BEGIN SOLUTION 91.3
    # BUG if len(numbers) == 1:
    # BUG     return 0
    if not numbers:
        return 0
    # END SOLUTION
    return sum(numbers) / len(numbers)
'''

TESTS = '''"""Toy tests."""
import pytest

pytestmark = pytest.mark.exercise("91.3")


def test_nothing():
    """The mean of nothing is 0."""
    from ch91_second.museum.mean import mean
    try:
        seen = mean([])
    except ZeroDivisionError:
        seen = "an error"
    assert seen == 0, f"the mean of nothing should be 0, seen: {seen}"


def test_two():
    """The mean of two is between them."""
    from ch91_second.museum.mean import mean
    assert mean([1, 2]) == 1.5, "the mean of 1 and 2 is 1.5"
'''

ENTRY = """
[exercise."91.3"]
title = "Mean"
file = "museum/mean.py"
functions = ["mean"]
difficulty = 1
minutes = 5
lines = 1
hints = ["n", "c", "a"]
symptom = "The mean of nothing is an error."
says = "mean of nothing should be 0"
"""

SHIPPED = MEAN.partition("    # BEGIN")[0] + (
    "    if len(numbers) == 1:\n        return 0\n    return sum(numbers) / len(numbers)\n"
)
TOML = "toolkit/commands/exercises/exercises.toml"
FILE = "my/ch91_second/museum/mean.py"


@pytest.fixture
def museum(toy):
    """The toy course with a bug in a sub-package, freshly generated."""
    for name, text in {
        "solutions/ch91_second/museum/__init__.py": '"""Bugs."""\n',
        "solutions/ch91_second/museum/mean.py": MEAN,
        "tests/ch91_second/test_mean.py": TESTS,
    }.items():
        (toy / name).parent.mkdir(exist_ok=True)
        (toy / name).write_text(text)
    metadata = toy / TOML
    metadata.write_text(metadata.read_text() + ENTRY)
    update(toy)
    return toy


def mend(root):
    path = root / FILE
    path.write_text(path.read_text().replace("len(numbers) == 1", "not numbers"))


def test_the_learner_gets_the_bug_and_no_trace_of_its_place(museum):
    """The generated file holds the faulty lines, uncommented, and nothing of the region around them."""
    assert (museum / FILE).read_text() == SHIPPED
    assert validate(load(museum), museum) == []


def test_a_missing_line_is_a_bug_too(museum):
    """`# BUG` with nothing behind it ships the text without the region."""
    source = museum / "solutions/ch91_second/museum/mean.py"
    source.write_text(MEAN.replace("# BUG if len(numbers) == 1:", "# BUG").replace("    # BUG     return 0\n", ""))
    update(museum)
    assert (museum / FILE).read_text() == SHIPPED.replace("    if len(numbers) == 1:\n        return 0\n", "")


def test_a_chapters_check_shows_the_symptom_and_runs_nothing(museum, capsys):
    """An untouched bug is not started: its symptom, its file, and the command that makes it fail."""
    assert check("91", museum) == 1
    out = capsys.readouterr().out
    assert (
        "91.3 Mean: not started\n  The mean of nothing is an error.\n"
        f"  find the bug in {FILE}\n  see it fail: make check EX=91.3\n"
    ) in out
    assert "Running" not in out


def test_asked_for_by_its_number_it_fails_before_it_is_touched(museum, capsys):
    """`make check EX=` runs an untouched bug, since its failure is what there is to read; the reference stays out."""
    assert check("91.3", museum) == 1
    out = capsys.readouterr().out
    assert "91.3 Mean: not solved yet\n  ✗ The mean of nothing is 0\n" in out
    assert "the mean of nothing should be 0, seen: an error" in out and "✓ The mean of two is between them" in out
    assert "  hint: make hint EX=91.3\n" in out
    assert f"1 exercise solved; next: 91.3 Mean\n  open {FILE}\n" in out


def test_mended_it_is_solved(museum, capsys):
    """A mended file is tested with the chapter, and counts."""
    mend(museum)
    check("91", museum)
    assert "91.3 Mean: solved" in capsys.readouterr().out
    assert check("91.3", museum) == 0


def test_the_reference_never_stands_in(museum, capsys):
    """With `fill` the learner's faulty code runs as it is, and nothing is announced."""
    course.use("mine", "ch91", fill=True, root=museum)
    from ch91_second.museum.mean import mean

    with pytest.raises(ZeroDivisionError):
        mean([])
    assert "exercise 3" not in capsys.readouterr().out


def test_progress_and_hints(museum):
    """Untouched is not started, any change of the code anywhere in the file is work, a comment is not."""
    assert next_hint("91.3", museum).splitlines()[1] == "  n"
    path = museum / FILE
    path.write_text("# where is it?\n" + path.read_text())
    assert "hints 1/3  not started" in table(museum)
    path.write_text(path.read_text() + "\n\ndef helper():\n    pass\n")
    assert "hints 1/3  written, not checked" in table(museum)
    check("91.3", museum)
    assert "started, tests fail" in table(museum)
    mend(museum)
    assert "edited since the last check" in table(museum)
    check("91.3", museum)
    assert "hints 1/3  solved" in table(museum)


def test_bugs_that_share_a_file_are_told_apart_by_their_functions(museum):
    """Each is worked on when its own function is, and its place names that function."""
    source = museum / "solutions/ch91_second/museum/mean.py"
    second = 'def first(numbers):\n    """The first."""\n    # BEGIN SOLUTION 91.4\n    # BUG return numbers[1]\n'
    source.write_text(f"{MEAN}\n\n{second}    return numbers[0]\n    # END SOLUTION\n")
    entry = ENTRY.replace("91.3", "91.4").replace('"Mean"', '"First"').replace('["mean"]', '["first"]')
    (museum / TOML).write_text((museum / TOML).read_text() + entry)
    update(museum)
    exercises = load(museum)
    mean, first = (look_at(exercises[name], museum) for name in ("91.3", "91.4"))
    assert (mean.state, first.state) == ("not started", "not started")
    assert mean.place == f"{FILE}, mean (line {mean.line})" and first.place == f"{FILE}, first (line {first.line})"
    mend(museum)
    assert look_at(exercises["91.3"], museum).state == "written"
    assert look_at(exercises["91.4"], museum) == first


def test_the_gate_wants_the_bug_to_fail_as_the_metadata_says(museum):
    """A bug that no test notices, or that fails with another message, is a gap; tests of wrong repairs may pass."""
    exercise = load(museum)["91.3"]
    assert find_gap(exercise, museum) is None
    tests = museum / "tests/ch91_second/test_mean.py"
    tests.write_text(TESTS.replace("should be 0, seen", "is zero, seen"))
    assert "do not fail with its message" in find_gap(exercise, museum)
    tests.write_text(TESTS.replace("seen == 0", "True"))
    assert find_gap(exercise, museum) == "exercise 91.3: its tests pass with the bug in"


def test_mutants_in_a_sub_package_are_planted(museum):
    """A wrong repair of a bug is a mutant like any other, with the file's place in its chapter."""
    mutant = Mutant(
        "ch91_second",
        "one_for_nothing",
        "91.3",
        "museum/mean.py",
        old="        return 0\n    # END",
        new="        return 1\n    # END",
        test="test_mean.py::test_nothing",
        says="seen: 1",
    )
    assert find_escape(mutant, museum) is None


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        (
            TOML,
            'says = "mean of nothing should be 0"',
            "",
            "has both, symptom and says",
        ),
        ("solutions/ch91_second/museum/mean.py", "# BUG", "# NOTE", "has # BUG lines if its exercise has a symptom"),
        ("solutions/ch91_second/counter.py", "self.value += STEP", "# BUG x", "has # BUG lines if its exercise"),
    ],
)
def test_metadata_of_bugs_is_validated(museum, file, old, new, problem):
    """Symptom, message and faulty lines belong together."""
    path = museum / file
    path.write_text(path.read_text().replace(old, new))
    assert problem in "\n".join(validate(load(museum), museum))


def test_a_race_report_is_shown_after_a_guess(museum, capsys):
    """Until then the symptom, and how to write down a guess; afterwards the whole message, and the guess."""
    tests = museum / "tests/ch91_second/test_mean.py"
    report = "seen: {seen}; 2 races, the first one:\\nRACE on numbers (2,)\\n  1st writes: mean at line 3"
    tests.write_text(TESTS.replace("seen: {seen}", report))
    check("91.3", museum)
    printed = capsys.readouterr().out
    assert "the mean of nothing should be 0" in printed and 'make hint EX=91.3 GUESS="..."' in printed
    assert "seen: an error; 2 races\n" in printed
    assert "RACE" not in printed and "1st writes" not in printed and "your guess" not in printed
    assert take_guess("91.3", "the check for one number", museum).startswith("91.3 Mean: noted.")
    check("91.3", museum)
    printed = capsys.readouterr().out
    assert "1st writes: mean at line 3" in printed and "your guess: the check for one number" in printed


def test_a_failure_without_a_report_is_shown_as_it_is(museum, capsys):
    """Nothing is kept back where there is no race."""
    check("91.3", museum)
    assert "GUESS" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exercise", "guess", "says"), [("91.3", " ", "the guess is empty"), ("91.1", "x", "no guess")]
)
def test_a_guess_that_cannot_be_taken_is_one_line(museum, exercise, guess, says):
    with pytest.raises(UserError, match=says):
        take_guess(exercise, guess, museum)
