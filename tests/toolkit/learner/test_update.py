"""`make update` of exercise files: what is replaced, merged and kept, by whatever way a release has changed them."""

import shutil
import subprocess
import textwrap
from dataclasses import replace

import pytest

from toolkit import files as course_files
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.learner import look_at
from toolkit.commands.exercises.metadata import load
from toolkit.commands.learner import texts
from toolkit.commands.learner.functions import functions_of
from toolkit.commands.learner.reset import reset
from toolkit.commands.learner.update import update
from toolkit.errors import UserError

COUNTER = "ch91_second/counter.py"
MINE, SOLUTION = f"my/{COUNTER}", f"solutions/{COUNTER}"
TOML = "toolkit/commands/exercises/exercises.toml"
UP = '        """Count one step up."""\n        raise NotImplementedError("ch91 exercise 1: Count")\n'
SOLVED_UP = '        """Count one step up."""\n        self.value = self.value + STEP  # mine\n'
TOTAL = '    result = 0\n    raise NotImplementedError("ch91 exercise 2: Add up")\n    return result\n'
SOLVED_TOTAL = "    # mine\n    return sum(numbers)\n"

OTHER = '''"""More functions."""


def mean(numbers):
    """The mean."""
    # BEGIN SOLUTION 91.3
    return sum(numbers) / len(numbers)
    # END SOLUTION
'''
ENTRY = """
[exercise."91.3"]
title = "Mean"
file = "other.py"
functions = ["mean"]
difficulty = 1
minutes = 5
lines = 1
hints = ["n", "c", "a"]
"""


@pytest.fixture
def solved(toy, edit):
    """The toy course with `up` and `total` written, and an import and a helper of the learner's own."""
    edit("from ch90_first.step import STEP\n", "import math\n\nfrom ch90_first.step import STEP\n")
    edit(UP, SOLVED_UP)
    edit(TOTAL, SOLVED_TOTAL)
    (toy / MINE).write_text((toy / MINE).read_text() + "\n\ndef helper():\n    return math.pi\n")
    return toy


@pytest.fixture
def mine(toy):
    return lambda name=COUNTER: (toy / "my" / name).read_text()


def add_other(root):
    (root / "solutions/ch91_second/other.py").write_text(OTHER)
    (root / TOML).write_text((root / TOML).read_text() + ENTRY)


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_nothing_new_changes_nothing(solved, files, capsys):
    """The same release again: up to date, not a byte is written, and there is no backup."""
    before = files()
    assert update(solved) == 0
    assert lines(capsys) == ["my/ is up to date"] and files() == before
    assert not (solved / "my/.backup").exists()


def test_an_untouched_file_is_replaced(toy, change, mine, backups, capsys):
    """With the release's text; what was there is in the backup that is named."""
    before = mine()
    change(SOLUTION, ("A counter.", "A better counter."))
    assert update(toy) == 0
    assert mine() == before.replace("A counter.", "A better counter.")
    said = lines(capsys)
    assert said[0] == f"{MINE}: replaced; you had not changed it"
    assert said[1].startswith("What was there before is in my/.backup/") and backups() == {COUNTER: before}
    assert backups() == {COUNTER: before}
    assert not set(said[1]) & set('<>:"|?*\\'), "a folder's name that Windows takes, too"


def test_edits_and_the_courses_changes_are_merged(solved, change, mine, backups, capsys):
    """A docstring next to what was solved, the title in an unsolved placeholder, a line elsewhere: no conflict."""
    before = mine()
    change(SOLUTION, ("Count one step up.", "Count one whole step up."), ("self.value = 0", "self.value: int = 0"))
    change(TOML, ('title = "Count"', 'title = "Count on"'))
    assert update(solved) == 0
    expected = before.replace("Count one step up.", "Count one whole step up.").replace("value = 0", "value: int = 0")
    assert mine() == expected.replace("exercise 1: Count", "exercise 1: Count on")
    assert lines(capsys)[0] == f"{MINE}: the course's changes are merged with yours"
    assert backups() == {COUNTER: before}
    assert update(solved) == 0 and lines(capsys) == ["my/ is up to date"]


def test_a_conflict_shows_both_versions_and_is_not_merged_over(solved, change, mine, backups, files, capsys):
    """Both between marks, the rest merged, exit code 1; check and another update say what to do, and change nothing."""
    before = mine()
    change(SOLUTION, ("    result = 0\n", "    result = 0.0\n"), ("A counter.", "The counter."))
    assert update(solved) == 1
    both = (
        "<<<<<<< yours\n    # mine\n    return sum(numbers)\n=======\n    result = 0.0\n    raise NotImplementedError"
    )
    text = mine()
    assert (
        both in text and ">>>>>>> the course's\n" in text and '"""The counter."""' in text and "+ STEP  # mine" in text
    )
    at = text.splitlines().index("<<<<<<< yours") + 1
    assert lines(capsys)[0] == f"{MINE}: you and the course changed the same lines; choose at line {at}"
    assert backups() == {COUNTER: before}

    left = f"^{MINE}, line {at}: make update has left two versions there, from '<<<<<<< yours' on; choose between"
    with pytest.raises(UserError, match=left):
        check("91", solved)
    change(SOLUTION, ("The counter.", "Another counter."))
    unchanged = files()
    with pytest.raises(UserError, match=f"^{MINE}, line {at}: two versions .* nothing was changed$"):
        update(solved)
    assert files() == unchanged

    head, _, rest = text.partition("<<<<<<< yours\n")
    chosen, _, rest = rest.partition("=======\n")
    (solved / MINE).write_text(head + chosen + rest.partition(">>>>>>> the course's\n")[2])
    assert update(solved) == 0
    assert mine() == before.replace("A counter.", "Another counter.")


def test_a_function_that_moved_within_its_file_keeps_its_edits(solved, change, mine):
    """`total` comes before the class, with a new docstring; the learner's code goes with it."""
    text = (solved / SOLUTION).read_text()
    head, total = text[: text.index("\n\ndef total")], text[text.index("def total") :].replace("The sum.", "Their sum.")
    (solved / SOLUTION).write_text(head.replace("class Counter", f"{total}\n\nclass Counter"))
    assert update(solved) == 0
    assert mine().index("def total") < mine().index("class Counter")
    assert f'def total(numbers):\n    """Their sum."""\n{SOLVED_TOTAL}' in mine() and SOLVED_UP in mine()
    assert "import math\n" in mine() and mine().count("def total") == 1 and "def helper" in mine()


def test_a_function_that_moved_to_another_file_keeps_its_edits(solved, change, mine, backups, capsys):
    """The exercise is found by its id; its new file says where it came from, and its old one keeps all other edits."""
    text, before = (solved / SOLUTION).read_text(), mine()
    total = text[text.index("def total") :]
    (solved / SOLUTION).write_text(text.partition("\n\ndef total")[0])
    (solved / "solutions/ch91_second/adding.py").write_text(f'"""Adding."""\n\n\n{total}')
    change(TOML, ('file = "counter.py"\nfunctions = ["total"]', 'file = "adding.py"\nfunctions = ["total"]'))
    assert update(solved) == 0
    assert (
        mine("ch91_second/adding.py") == f'"""Adding."""\n\n\ndef total(numbers):\n    """The sum."""\n{SOLVED_TOTAL}'
    )
    assert "def total" not in mine() and SOLVED_UP in mine() and "def helper" in mine()
    came = f"your total is here now, from {MINE}: does it need other lines of yours from there?"
    assert lines(capsys)[0] == f"my/ch91_second/adding.py: new; {came}"
    assert backups() == {COUNTER: before}
    assert look_at(load(solved)["91.2"], solved).state == "written"


def test_a_function_that_became_a_method_is_indented(solved, change, mine):
    """`total` is a method of Counter in the new release."""
    text = (solved / SOLUTION).read_text()
    total = textwrap.indent(text[text.index("def total") :], "    ")
    (solved / SOLUTION).write_text(text[: text.index("\n\ndef total")] + "\n    @staticmethod\n" + total)
    change(TOML, ('functions = ["total"]', 'functions = ["Counter.total"]'))
    assert update(solved) == 0
    body = 'def total(numbers):\n        """The sum."""\n        # mine\n        return sum(numbers)\n'
    assert f"    @staticmethod\n    {body}" in mine() and look_at(load(solved)["91.2"], solved).state == "written"


def test_a_renamed_file_keeps_all_edits(solved, change, mine, backups, capsys):
    """Imports and helpers of the learner's, too; the old file is in the backup."""
    before = mine()
    (solved / SOLUTION).rename(solved / "solutions/ch91_second/tally.py")
    change("solutions/ch91_second/tally.py", ("A counter.", "A tally."))
    (solved / TOML).write_text((solved / TOML).read_text().replace("counter.py", "tally.py"))
    assert update(solved) == 0
    assert mine("ch91_second/tally.py") == before.replace("A counter.", "A tally.")
    assert not (solved / MINE).exists() and backups() == {COUNTER: before}
    assert lines(capsys)[:2] == [
        f"my/ch91_second/tally.py: new; it was {MINE}",
        f"{MINE}: is my/ch91_second/tally.py now",
    ]


def test_renumbered_and_renamed_exercises_keep_their_edits(solved, change, mine):
    """91.2 becomes 91.3 with its function's name; 91.1 stays, with another name for one of its functions."""
    change(SOLUTION, ("SOLUTION 91.2", "SOLUTION 91.3"), ("def up", "def one_up"))
    change(TOML, ('exercise."91.2"', 'exercise."91.3"'), ('"Counter.up"', '"Counter.one_up"'))
    assert update(solved) == 0
    assert "    def one_up(self):\n" + SOLVED_UP in mine() and "def up" not in mine()
    assert SOLVED_TOTAL in mine()
    assert look_at(load(solved)["91.3"], solved).state == "written"


def test_what_the_course_takes_away_is_in_the_backup(solved, change, mine, backups, capsys):
    """A file whose exercises are gone runs from solutions/ again; the learner's is kept and named."""
    add_other(solved)
    update(solved)
    before = mine()
    (solved / SOLUTION).write_text("def total(numbers):\n    return sum(numbers)\n")
    toml = (solved / TOML).read_text()
    (solved / TOML).write_text(toml[toml.index('[exercise."91.3"]') :])
    lines(capsys)
    assert update(solved) == 0
    assert lines(capsys)[0] == f"{MINE}: taken away; the course has no exercise in it any more; you had edited it"
    assert not (solved / MINE).exists() and backups() == {COUNTER: before}


def test_new_exercises_come_and_own_files_stay(solved, mine, capsys):
    """A file that only the learner has is never touched."""
    for name in ("ch91_second/notes.py", "ch90_first/step.py"):
        (solved / "my" / name).parent.mkdir(exist_ok=True)
        (solved / "my" / name).write_text("own = 1\n")
    add_other(solved)
    assert update(solved) == 0
    assert lines(capsys) == ["my/ch91_second/other.py: new"], "and nothing to keep a backup of"
    assert 'raise NotImplementedError("ch91 exercise 3: Mean")' in mine("ch91_second/other.py")
    assert mine("ch91_second/notes.py") == mine("ch90_first/step.py") == "own = 1\n"


def test_an_own_file_under_the_name_of_a_new_exercise_stays(toy, mine, capsys):
    """The course's is laid beside it; a second update does not ask again."""
    (toy / "my/ch91_second/other.py").write_text("own = 1\n")
    add_other(toy)
    assert update(toy) == 1
    assert mine("ch91_second/other.py") == "own = 1\n" and "exercise 3: Mean" in mine("ch91_second/other.new.py")
    said = lines(capsys)[0]
    assert said.startswith(
        "my/ch91_second/other.new.py: my/ch91_second/other.py is as you left it, and this is the course's"
    )
    assert update(toy) == 0


def test_a_deleted_file_comes_with_the_next_change_of_it(toy, change, mine):
    """Not before: a learner who deleted it had a reason, and `make start` brings it back."""
    (toy / MINE).unlink()
    assert update(toy) == 0 and not (toy / MINE).exists()
    change(SOLUTION, ("A counter.", "The counter."))
    assert update(toy) == 0 and "The counter." in mine()


def test_a_function_that_the_learner_took_out_is_named(solved, change, mine, capsys):
    """It stays out, and where the course has changed it one line says so."""
    text = mine()
    (solved / MINE).write_text(text.replace("def total(", "def my_total("))
    change(SOLUTION, ("The sum.", "Their sum."))
    assert update(solved) == 0
    assert lines(capsys)[0] == f"{MINE}: total is not in your file, and the course has changed it"
    assert mine() == text.replace("def total(", "def my_total(")


def test_a_file_that_python_cannot_read_is_merged_all_the_same(solved, change, mine):
    """The broken line stays as it is, in its function."""
    broken = mine().replace("self.value = self.value + STEP  # mine", "self.value = (self.value +")
    (solved / MINE).write_text(broken)
    change(SOLUTION, ("The sum.", "Their sum."), ("A counter.", "The counter."))
    assert update(solved) == 0
    assert mine() == broken.replace("The sum.", "Their sum.").replace("A counter.", "The counter.")


def test_line_ends_and_foreign_bytes_stay(solved, change):
    """A file saved on Windows, with a letter that is no UTF-8."""
    text = (solved / MINE).read_bytes().replace(b"# mine", b"# caf\xe9").replace(b"\n", b"\r\n")
    (solved / MINE).write_bytes(text)
    change(SOLUTION, ("A counter.", "The counter."))
    assert update(solved) == 0
    assert (solved / MINE).read_bytes() == text.replace(b"A counter.", b"The counter.")


def test_the_marks_do_not_depend_on_the_learners_git(solved, change, mine, tmp_path, monkeypatch):
    """Two versions, also where git is set to show three."""
    (tmp_path / "gitconfig").write_text("[merge]\n\tconflictStyle = diff3\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    change(SOLUTION, ("    result = 0\n", "    result = 0.0\n"))
    assert update(solved) == 1 and "|||||||" not in mine()


def test_without_git_nothing_is_changed(solved, change, files, monkeypatch):
    """One line; what needs no merging works without."""
    monkeypatch.setenv("PATH", "")
    add_other(solved)
    assert update(solved) == 0
    change(SOLUTION, ("self.value = 0", "self.value: int = 0"))
    before = files()
    with pytest.raises(UserError, match="^merging your edits with the course's needs git, which is not found here$"):
        update(solved)
    assert files() == before


def test_a_file_that_cannot_be_read_is_one_line(solved, change, files, monkeypatch):
    """And nothing is changed, whether it is the learner's or the base."""
    change(SOLUTION, ("A counter.", "The counter."))
    before = files()
    read_bytes = course_files.Path.read_bytes
    for file in (solved / MINE, solved / "my/.base" / COUNTER):

        def refuse(self, file=file):
            if self == file:
                raise PermissionError(13, "Permission denied")
            return read_bytes(self)

        monkeypatch.setattr(course_files.Path, "read_bytes", refuse)
        for command in (update, lambda root: reset("91.1", root)):
            with pytest.raises(UserError, match=f"^cannot read {file}: Permission denied$"):
                command(solved)
        monkeypatch.undo()
    assert files() == before


def prepare_everything(root, change):
    """A release in which a function moves to another file, texts change, a file goes and a file comes."""
    text = (root / SOLUTION).read_text()
    total = text[text.index("def total") :]
    (root / SOLUTION).write_text(text.partition("\n\ndef total")[0].replace("A counter.", "The counter."))
    (root / "solutions/ch91_second/adding.py").write_text(f'"""Adding."""\n\n\n{total}')
    change(TOML, ('file = "counter.py"\nfunctions = ["total"]', 'file = "adding.py"\nfunctions = ["total"]'))
    (root / "solutions/ch91_second/other.py").write_text(OTHER.replace("The mean.", "Their mean."))


def test_an_interrupted_update_is_finished_by_the_next(solved, change, files, monkeypatch):
    """The disk is full at any of its files: one line, and then the same as without. Nothing is lost in between."""
    add_other(solved)
    update(solved)
    prepare_everything(solved, change)
    shutil.copytree(solved / "my", solved / "kept")
    shutil.rmtree(solved / "my/.backup", ignore_errors=True)
    assert update(solved) == 0
    expected = files()
    assert b"# mine\n    return sum(numbers)" in expected["ch91_second/adding.py"]
    write_bytes = course_files.Path.write_bytes
    for call in range(100):
        shutil.rmtree(solved / "my")
        shutil.copytree(solved / "kept", solved / "my")
        left = iter(range(call))

        def fill_up(self, content, left=left):
            if ".tmp" in self.name and next(left, None) is None:
                raise OSError(28, "No space left on device")
            return write_bytes(self, content)

        monkeypatch.setattr(course_files.Path, "write_bytes", fill_up)
        try:
            update(solved)
            break
        except UserError as error:
            assert "No space left on device" in str(error)
        finally:
            monkeypatch.undo()
        assert any(b"# mine\n    return sum(numbers)" in content for content in files().values())
        update(solved)
        assert files() == expected, f"the disk was full at write {call}"
    assert call >= 8, "each write was tried"


def test_merging_texts_takes_whichever_side_changed():
    """And both where they changed other lines, or one has all of the other's."""
    assert texts.merge_texts("a\n", "a\n", "b\n") == texts.Merged("b\n")
    assert texts.merge_texts("a\n", "b\n", "a\n") == texts.Merged("b\n")
    assert texts.merge_texts("a\n", "b\n", "b\n") == texts.Merged("b\n")
    assert texts.merge_texts("a\nx\nb\n", "A\nx\nb\n", "a\nx\nB\n") == texts.Merged("A\nx\nB\n")
    assert texts.merge_texts("a\n", "b\nc\n", "b\n") == texts.Merged("b\nc\n")
    assert texts.merge_texts("a\n", "b\n", "c\n").conflicts == 1


def test_a_git_that_fails_is_one_line(monkeypatch):
    """Where it refuses, and where something has ended it: no text comes of that."""
    with pytest.raises(UserError, match="^git merge-file ended with code 255, and nothing was changed: .*binary"):
        texts.merge_texts("a\0\n", "b\0\n", "c\0\n")
    killed = subprocess.CompletedProcess([], -9, b"", b"")
    monkeypatch.setattr(texts.subprocess, "run", lambda *arguments, **keywords: killed)
    with pytest.raises(UserError, match="^git merge-file ended with code -9"):
        texts.merge_texts("a\n", "b\n", "c\n")


def test_a_function_at_another_indent_keeps_the_marks_at_the_lines_start():
    """Where a learner has put it under an if, say: the next update knows them."""
    function = functions_of("def f():\n    x = 1\n")["f"]
    marked = replace(function, body=f"{texts.YOURS}    x = 1\n\n{texts.BETWEEN}    == 2\n{texts.COURSES}")
    moved = f"    def f():\n{texts.YOURS}        x = 1\n\n{texts.BETWEEN}        == 2\n{texts.COURSES}"
    assert marked.shifted(4).text == moved and marked.shifted(4).shifted(0) == marked
