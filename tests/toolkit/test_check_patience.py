"""`make check` where a test does not end, on a machine of any speed; and what the learner's code printed."""

import os
import threading
import time

import pytest

from toolkit.commands.exercises import patience
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.patience import Patience
from toolkit.commands.exercises.places import places_in
from toolkit.commands.exercises.runner import ENDLESS_LOOP, ENDLESS_WAIT
from toolkit.errors import UserError

FILE = "my/ch91_second/counter.py"
TESTS = "tests/ch91_second/test_counter.py"
PLACEHOLDER = '        raise NotImplementedError("ch91 exercise 1: Count")\n'
UP = '        """Count one step up."""\n'
DOWN = '        """Count one step down."""\n'
TOTAL = '    raise NotImplementedError("ch91 exercise 2: Add up")\n'


@pytest.fixture
def solve(toy, edit):
    """Solve the toy course's exercises, with other lines for `up` if given; one test only reaches these."""
    tests = toy / TESTS
    tests.write_text(tests.read_text().partition("def test_everything")[0])

    def solve(up="self.value += STEP"):
        edit(UP + PLACEHOLDER, f"{UP}        {up}\n")
        edit(DOWN + PLACEHOLDER, f"{DOWN}        self.value -= STEP\n")
        edit(TOTAL, "    result = sum(numbers)\n")

    return solve


@pytest.mark.parametrize(
    ("up", "message"),
    [
        ("while True: print('again')", ENDLESS_LOOP),
        ("import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()", ENDLESS_WAIT),
    ],
    ids=["loop", "lock"],
)
def test_what_never_ends_is_named_and_all_other_tests_run(toy, solve, capsys, up, message):
    """A loop and a lock are told apart, with the learner's line; the exercise's other test and the next one's run."""
    solve(up)
    assert check("91", toy, limit=2) == 1
    out = capsys.readouterr().out
    assert f"  ✗ Counting up adds a step\n      {message}\n      it was then at: {FILE}:14\n" in out
    assert "  ✓ Counting down takes a step away\n" in out and "91.2 Add up: solved" in out
    if "print" in up:
        assert "      it printed, at the end of" in out and "        again\n" in out


def test_a_file_that_never_ends_loading_is_one_line(toy, solve, edit):
    """A loop outside of all functions is named as what cannot be loaded, with its line."""
    solve()
    edit("from ch90_first.step import STEP\n", "from ch90_first.step import STEP\n\nwhile True:\n    pass\n")
    with pytest.raises(UserError, match=rf"^{FILE}:[56] cannot be loaded: {ENDLESS_LOOP}$"):
        check("91", toy, limit=1)


@pytest.mark.long
def test_an_exercise_that_hangs_in_three_tests_is_left(toy, solve, capsys):
    """Three tests of an exercise that do not end, here in C, are enough: the others are left out, which is said."""
    solve("import itertools; sum(itertools.count())")
    test = '\n\n@pytest.mark.exercise("91.1")\ndef test_again_{0}():\n    """Again {0}."""\n    Counter().up()\n'
    (toy / TESTS).write_text((toy / TESTS).read_text() + "".join(test.format(number) for number in range(4)))
    assert check("91.1", toy, limit=2) == 1
    out = capsys.readouterr().out
    assert out.count(f"{ENDLESS_LOOP}\n      it was then at: {FILE}:14\n") == 3
    assert "Again 1" in out and "Again 2" not in out
    assert "  After 3 tests that did not end, the tests that were left were not run.\n" in out


@pytest.mark.long
def test_a_loop_in_the_test_names_the_tests_line(toy, solve, capsys):
    """Where the test waits for what the learner's code never does, it is the test's line that is given."""
    solve()
    (toy / TESTS).write_text(
        (toy / TESTS).read_text().replace("    counter.down()\n", "    while True:\n        pass\n")
    )
    assert check("91.1", toy, limit=2) == 1
    out = capsys.readouterr().out
    assert f"{ENDLESS_LOOP}; it was at {TESTS}:" in out and "it was then at" not in out


def test_a_slow_or_busy_machine_is_not_called_a_fault(toy, solve, monkeypatch, capsys):
    """A machine that does a twentieth of the usual work has twenty times as long: 3 s pass with a limit of 1."""
    monkeypatch.setattr(patience, "WORK_SECONDS", patience.WORK_SECONDS / 20)
    solve("import time; time.sleep(3); self.value += STEP")
    assert check("91.1", toy, limit=1) == 0, capsys.readouterr().out


def test_a_tests_time_goes_as_the_machine_does(monkeypatch):
    """A second counts in full on a free core, a quarter where the work takes four times as long, and never more."""
    at = Patience(os.getpid())
    for seconds, waited in ((0.01, 1.0), (0.04, 1.25), (0.001, 2.25)):
        clock = iter((0.0, seconds))
        monkeypatch.setattr(patience.time, "perf_counter", lambda clock=clock: next(clock))
        at.tick()
        assert at.waited == pytest.approx(waited)
    at.restart()
    assert at.waited == 0


def test_computing_and_sleeping_are_told_apart():
    """A process that used a processor computes, whichever of its threads did; one that slept does not."""
    at = Patience(os.getpid())
    time.sleep(0.5)
    at.waited = 0.5
    assert not at.computes()
    at.restart()
    worker = threading.Thread(target=lambda: sum(range(30_000_000)))
    worker.start()
    worker.join()
    at.waited = 0.5
    assert at.computes()


def test_the_line_of_the_thread_that_is_stuck(tmp_path):
    """Of several threads in the learner's code, a loop is where none sleeps, and a wait where the main thread is."""
    a, b = tmp_path / "my" / "a.py", tmp_path / "my" / "b.py"
    asleep = 'File "/lib/threading.py", line 9 in wait'
    dump = (
        f'Thread 0x1 (most recent call first):\n  File "{a}", line 1 in loop\n  {asleep}\n\n'
        f'Current thread 0x2 (most recent call first):\n  {asleep}\n  File "{b}", line 2 in up\n'
    )
    assert places_in("my", tmp_path, dump, computing=True) == ["my/a.py:1"]
    assert places_in("my", tmp_path, dump, computing=False) == ["my/b.py:2"]
    assert places_in("tests", tmp_path, dump, computing=True) == []


def test_what_the_code_printed_is_shown(toy, solve, edit, capsys):
    """A failing test shows what was printed in it, and nothing of other tests; of much, the last lines, cut."""
    solve("import sys; print('up', self.value); print('to stderr', file=sys.stderr)")
    edit("self.value -= STEP", "print('downwards'); self.value -= STEP")
    assert check("91.1", toy) == 1
    out = capsys.readouterr().out
    assert "      it printed:\n        up 0\n        to stderr\n  ✓ Counting down" in out
    assert "downwards" not in out

    edit("print('up', self.value)", "[print(n) for n in range(2000)]; print('x' * 1000)")
    assert check("91.1", toy) == 1
    out = capsys.readouterr().out
    assert "        1982\n" in out and "        1981\n" not in out
    assert "it printed, at the end of 2002 lines" in out
    assert f"        {'x' * 160} ...\n" in out
