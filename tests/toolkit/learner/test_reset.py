"""`make reset EX=`: one exercise is as shipped again, everything else stays."""

import pytest

from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.hint import next_hint
from toolkit.commands.exercises.learner import look_at
from toolkit.commands.exercises.metadata import load
from toolkit.commands.exercises.state import load_state
from toolkit.commands.learner.reset import reset
from toolkit.errors import UserError

COUNTER = "ch91_second/counter.py"
TOTAL = '    raise NotImplementedError("ch91 exercise 2: Add up")\n    return result\n'
DOWN = '        """Count one step down."""\n        raise NotImplementedError("ch91 exercise 1: Count")\n'


@pytest.fixture
def path(toy):
    return toy / "my" / COUNTER


@pytest.fixture
def both_solved(toy, edit, path):
    edit(TOTAL, "    return sum(numbers)\n")
    edit(DOWN, "        self.value -= STEP\n")
    path.write_text(path.read_text() + "\n\ndef helper():\n    pass\n")
    return toy


def test_its_functions_are_as_shipped_and_nothing_else_changes(both_solved, path, backups, capsys):
    """The other exercise and the learner's own lines stay; the file as it was is in the backup."""
    before, shipped = path.read_text(), (both_solved / "my/.base" / COUNTER).read_text()
    said = reset("91.1", both_solved).splitlines()
    assert said[0] == f"91.1 Count is as it was shipped: my/{COUNTER}, Counter.up, Counter.down"
    assert said[1].startswith("What the file held before is in my/.backup/")
    solved = shipped.replace(TOTAL, "    return sum(numbers)\n")
    assert path.read_text() == solved + "\n\ndef helper():\n    pass\n"
    assert backups() == {COUNTER: before}


def test_its_result_is_forgotten_and_its_hints_are_not(both_solved):
    check("91.2", both_solved)
    next_hint("91.2", both_solved)
    assert load_state(both_solved).checks["91.2"].solved
    reset("91.2", both_solved)
    state = load_state(both_solved)
    assert "91.2" not in state.checks and state.hints == {"91.2": 1}
    assert look_at(load(both_solved)["91.2"], both_solved).state == "not started"


def test_what_is_as_shipped_stays_as_it_is(toy, path):
    assert reset("91.2", toy) == f"91.2 Add up is as it was shipped; my/{COUNTER} stays as it is"
    assert not (toy / "my/.backup").exists()


def test_functions_that_were_deleted_come_back(both_solved, path):
    """A method to its class, a function to the file's end."""
    text = path.read_text()
    start, end = text.index("    def down"), text.index("def total")
    without_down = text[:start].rstrip() + "\n\n\n" + text[end:]
    path.write_text(without_down)
    reset("91.1", both_solved)
    assert f"\n    def down(self):\n{DOWN}" in path.read_text().partition("def total")[0]
    path.write_text(text.partition("def total")[0])
    reset("91.2", both_solved)
    assert path.read_text().endswith(f'def total(numbers):\n    """The sum."""\n    result = 0\n{TOTAL}')
    assert look_at(load(both_solved)["91.2"], both_solved).state == "not started"


def test_a_class_that_was_deleted_is_one_line(both_solved, path):
    """Nothing is written; a file that is moved away comes back with make start."""
    text = path.read_text().replace("class Counter", "class Counters")
    path.write_text(text)
    with pytest.raises(UserError, match=f"^my/{COUNTER} has no class Counter with methods, so there is no place for"):
        reset("91.1", both_solved)
    assert path.read_text() == text and not (both_solved / "my/.backup").exists()


def test_a_file_that_python_cannot_read_is_mended_where_the_function_was_broken(both_solved, path):
    """A syntax error in the exercise goes with it, the other exercise stays."""
    path.write_text(path.read_text().replace("    return sum(numbers)\n", "    return sum((numbers\n"))
    with pytest.raises(UserError, match="Python cannot read this"):
        check("91", both_solved)
    reset("91.2", both_solved)
    assert TOTAL in path.read_text() and "self.value -= STEP" in path.read_text()
    assert check("91.2", both_solved) == 1


def test_a_deleted_file_comes_back_whole(toy, path):
    path.unlink()
    assert reset("91.1", toy) == f"91.1 Count is as it was shipped: my/{COUNTER}, the whole file"
    assert path.read_text() == (toy / "my/.base" / COUNTER).read_text()


def test_what_does_not_exist_is_one_line(toy, change):
    """An exercise that there is not, and one that my/ does not have yet."""
    with pytest.raises(UserError, match=r"^there is no exercise '9\.9'; their numbers go from 91\.1 to 91\.2$"):
        reset("9.9", toy)
    change("toolkit/commands/exercises/exercises.toml", ('exercise."91.2"', 'exercise."91.3"'))
    change("solutions/ch91_second/counter.py", ("SOLUTION 91.2", "SOLUTION 91.3"))
    with pytest.raises(UserError, match=r"^my/ does not have exercise 91\.3 yet: make update brings it there$"):
        reset("91.3", toy)
