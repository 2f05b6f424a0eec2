"""`make check` on the toy course: what a learner reads at every stage, and the exit code."""

import pytest

from toolkit.commands.exercises.check import check
from toolkit.commands.learner.update import update
from toolkit.errors import UserError

UP = '        """Count one step up."""\n        raise NotImplementedError("ch91 exercise 1: Count")\n'
DOWN = '        """Count one step down."""\n        raise NotImplementedError("ch91 exercise 1: Count")\n'
MODULE_LEVEL = "    return result\n\n\n{}\n\n\ndef another(result):\n"
TOTAL = '    raise NotImplementedError("ch91 exercise 2: Add up")\n'


def test_untouched_chapter_names_what_to_open(toy, capsys):
    """Nothing is run; each exercise says not started, which file, function and line, and how to get a hint."""
    assert check("91", toy) == 1
    assert capsys.readouterr().out == (
        "Testing your code, in my/ch91_second/ (all other files and what is not solved yet run as "
        "the reference).\n\n91.1 Count: not started\n"
        "  open my/ch91_second/counter.py, Counter.up (line 12)\n"
        "  hint: make hint EX=91.1\n\n91.2 Add up: not started\n"
        "  open my/ch91_second/counter.py, total (line 21)\n"
        "  hint: make hint EX=91.2\n\n0 of 2 exercises solved; next: 91.1 Count\n"
        "  open my/ch91_second/counter.py, Counter.up (line 12)\n"
    )


def test_stages_of_work(toy, edit, capsys):
    """Partly written, wrong, right with an exercise open, and all solved are told apart."""
    edit(UP, UP.replace('raise NotImplementedError("ch91 exercise 1: Count")', "self.value += 2"))
    assert check("ch91", toy) == 1
    out = capsys.readouterr().out
    assert "91.1 Count: not solved yet\n" in out
    assert "  The reference stands in for Counter.down, still to be written (line 16).\n" in out
    assert "  ✗ Counting up adds a step\n      after one up() the value is 2, not 1\n  ✓ Counting down" in out
    assert "  ✓ Counting down takes a step away\n  hint: make hint EX=91.1\n\n" in out
    assert "91.2 Add up: not started\n" in out

    edit("self.value += 2", "self.value += 1")
    assert check("91.1", toy) == 1
    out = capsys.readouterr().out
    assert "91.1 Count: partly written, so far right\n" in out and "91.2" not in out

    edit('raise NotImplementedError("ch91 exercise 1: Count")', "self.value -= STEP")
    assert check("91.1", toy) == 0
    assert capsys.readouterr().out.endswith("1 of 1 exercise solved\n")

    edit(TOTAL, TOTAL + "    return 3\n")
    assert check("91", toy) == 1
    out = capsys.readouterr().out
    assert "91.2 Add up: started, but not tested, for the placeholder still stands\n" in out
    assert "  my/ch91_second/counter.py, total (line 24)\n" in out
    assert out.endswith(
        "1 of 2 exercises solved; next: 91.2 Add up\n  open my/ch91_second/counter.py, total (line 21)\n"
    )

    edit(TOTAL, "")
    assert check("91", toy) == 1
    out = capsys.readouterr().out
    assert "  ✗ The total is the sum (2 of 3 cases fail)\n      case numbers0:\n      the total of [1] is 3\n" in out

    edit("return 3", "return sum(numbers)")
    assert check("91", toy) == 0
    out = capsys.readouterr().out
    assert "\nRunning the tests: 91.1 91.2 and the chapter as a whole\n\n" in out, "each is named as it is reached"
    assert "The chapter as a whole: right" in out and out.endswith("2 of 2 exercises solved\n")


def test_an_exception_names_the_learners_line(toy, edit, capsys):
    """An exception in the learner's code is shown with its kind and the learner's file and line."""
    edit(TOTAL, "    result += numbers[7]\n")
    assert check("91.2", toy) == 1
    out = capsys.readouterr().out
    assert "IndexError: list index out of range\n      in your code: my/ch91_second/counter.py:24\n" in out


def test_an_exception_in_the_test_says_so(toy, edit, capsys):
    """Where the test stumbles over what it got, its line is named and the likely cause."""
    edit(TOTAL, "    return object()\n")
    tests = toy / "tests/ch91_second/test_counter.py"
    tests.write_text(tests.read_text().replace("total(numbers) ==", "total(numbers) + 0 =="))
    assert check("91.2", toy) == 1
    out = capsys.readouterr().out
    assert "raised by the test itself (tests/ch91_second/test_counter.py:2" in out
    assert "): perhaps your code returned something else than it should" in out


def test_an_exception_in_the_reference_says_so(toy, edit, capsys):
    """Where other code stumbles over what it got, and the learner's is not on the way, the line is not the test's."""
    edit(TOTAL, "    return object()\n")
    (toy / "solutions/ch90_first/step.py").write_text("STEP = 1\n\n\ndef half(number):\n    return number / 2\n")
    tests = toy / "tests/ch91_second/test_counter.py"
    text = tests.read_text().replace("total(numbers) ==", "half(total(numbers)) ==")
    tests.write_text(text.replace("import pytest\n", "import pytest\nfrom ch90_first.step import half\n"))
    assert check("91.2", toy) == 1
    out = capsys.readouterr().out
    assert "raised at solutions/ch90_first/step.py:5, in the reference, which the test called (tests/ch91_second" in out
    assert "raised by the test itself" not in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("    result += (\n", r"counter.py, line 24: Python cannot read this: '\(' was never closed: result \+= \("),
        (MODULE_LEVEL.format("import nothing_here"), "counter.py:27 cannot be loaded: ModuleNotFoundError: No module"),
        (MODULE_LEVEL.format("x = y"), "counter.py:27 cannot be loaded: NameError: name 'y' is not defined"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_line(toy, edit, text, message):
    """A syntax or import error is one line with the learner's file and line."""
    edit(TOTAL, text)
    with pytest.raises(UserError, match=message):
        check("91", toy)


def test_a_lost_function_is_named(toy, edit):
    """A renamed exercise function is said to be missing."""
    edit("def total(", "def totals(")
    with pytest.raises(UserError, match="exercise 91.2 needs the function total, which is not there"):
        check("91", toy)


MISSING = r"is not there; bring it back with: make start \(python -m toolkit.commands.learner.start\)"


def test_a_missing_file_is_one_line(toy):
    """The learner's file of the exercise itself: its name, and the command that brings it back."""
    (toy / "my/ch91_second/counter.py").unlink()
    for what in ("91", "91.2"):
        with pytest.raises(UserError, match=f"^my/ch91_second/counter.py {MISSING}$"):
            check(what, toy)


@pytest.mark.parametrize("setting", [None, "mine"])
def test_another_missing_file_with_an_exercise_is_one_line(toy, edit, monkeypatch, setting):
    """A file that the exercise's own file imports, in its chapter or an earlier one, does not run as the reference."""
    step = "ch91_second/step.py" if setting is None else "ch90_first/step.py"
    (toy / "solutions" / step).write_text("# BEGIN SOLUTION 91.1\nSTEP = 1\n# END SOLUTION\n")
    edit("from ch90_first", f"from {step.split('/')[0]}")
    edit(TOTAL, "    return sum(numbers)\n")
    if setting:
        monkeypatch.setenv("COURSE_CODE", setting)
    with pytest.raises(UserError, match=f"^my/{step} {MISSING}$"):
        check("91.2", toy)


def test_given_files_run_from_solutions_and_copies_of_them_from_my(toy, edit, capsys):
    """A given file that the learner has copied and edited is what is tested, and a failure names its line, too."""
    (toy / "solutions/ch91_second/adding.py").write_text("def add(a, b):\n    return a + b\n")
    edit("from ch90_first.step import STEP", "from ch90_first.step import STEP\nfrom ch91_second.adding import add")
    edit(TOTAL, "    for number in numbers:\n        result = add(result, number)\n")
    assert check("91.2", toy) == 0
    (toy / "my/ch91_second/adding.py").write_text("def add(a, b):\n    return a + b + []\n")
    capsys.readouterr()
    assert check("91.2", toy) == 1
    own, further = "my/ch91_second/counter.py:26", "my/ch91_second/adding.py:2"
    assert f"in your code: {own}, and further in: {further}\n" in capsys.readouterr().out


OTHER = """def half(number):
    return number / 2


def double(number):
    # BEGIN SOLUTION 91.1
    return 2 * number
    # END SOLUTION
"""


@pytest.mark.parametrize("own_file", [True, False])
def test_a_file_that_is_as_it_was_shipped_is_not_called_the_learners(toy, edit, monkeypatch, capsys, own_file):
    """With COURSE_CODE=mine it runs from my/, and an error in it is shown where the exercise's file led there."""
    monkeypatch.setenv("COURSE_CODE", "mine")
    (toy / "solutions/ch90_first/other.py").write_text(OTHER)
    update(toy)
    if own_file:
        edit("from ch90_first.step import STEP", "from ch90_first.step import STEP\nfrom ch90_first.other import half")
        edit(TOTAL, "    half('x')\n")
    else:
        edit(TOTAL, "    return 'x'\n")
        tests = toy / "tests/ch91_second/test_counter.py"
        text = tests.read_text().replace("total(numbers) ==", "half(total(numbers)) ==")
        tests.write_text(text.replace("import pytest\n", "import pytest\nfrom ch90_first.other import half\n"))
    assert check("91.2", toy) == 1
    out = capsys.readouterr().out
    if own_file:
        assert "in your code: my/ch91_second/counter.py:25\n" in out
    else:
        assert "raised at my/ch90_first/other.py:2, in a file that you have not changed, which the test called" in out
        assert "in your code" not in out


def test_a_crash_is_reported(toy, edit, capsys):
    """Code that ends the whole process is a failure of its exercise."""
    edit(TOTAL, "    import os\n\n    os._exit(3)\n")
    assert check("91", toy) == 1
    out = capsys.readouterr().out
    assert "the test process ended with code 3\n" in out


def test_the_reference_can_be_checked(toy, monkeypatch, capsys):
    """With COURSE_CODE=solutions the reference is what is tested, and the output says so."""
    monkeypatch.setenv("COURSE_CODE", "solutions")
    assert check("91", toy) == 0
    assert capsys.readouterr().out.startswith("Testing the reference solutions, in solutions/.")


@pytest.mark.parametrize("what", ["7", "ch7", "7.1", "two", ""])
def test_unknown_chapters_and_exercises_are_one_line(toy, what):
    """What does not exist is answered with what does."""
    answer = r"there is no (chapter .*; there are ch90_first, |exercise .*; their numbers go from 91\.1 to 91\.2$)"
    with pytest.raises(UserError, match=answer):
        check(what, toy)


def test_long_sweeps_are_no_part_of_a_check(toy, monkeypatch, capsys):
    """A test that is marked long is left to `make test-long`."""
    monkeypatch.setenv("COURSE_CODE", "solutions")
    tests = toy / "tests/ch91_second/test_counter.py"
    tests.write_text(tests.read_text() + "\n\n@pytest.mark.long\ndef test_sweep():\n    assert False\n")
    assert check("91", toy) == 0, capsys.readouterr().out


def test_slow_tests_of_an_exercise_are_part_of_a_check_and_those_of_no_exercise_are_not(toy, monkeypatch, capsys):
    """Slow tests of the chapter as a whole are left to `make test-long`; an exercise is judged by all of its own."""
    monkeypatch.setenv("COURSE_CODE", "solutions")
    tests = toy / "tests/ch91_second/test_counter.py"
    text = tests.read_text()
    slow = "\n\n@pytest.mark.slow\ndef test_slow():\n    assert False, 'slow'\n"
    tests.write_text(text + slow)
    assert check("91", toy) == 0, capsys.readouterr().out
    tests.write_text(text + slow.replace("@pytest", "@pytest.mark.exercise('91.2')\n@pytest", 1))
    assert check("91", toy) == 1
    assert "slow" in capsys.readouterr().out
