"""`make report`: what is in the file, what is not, and how the work on an exercise is counted."""

import getpass
import json
import platform

import pytest

from toolkit.commands.classroom.report import file_name, report, summary, typed_name
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.hint import next_hint
from toolkit.commands.exercises.work import BREAK, Work
from toolkit.errors import UserError

EVIL = ["=HYPERLINK()", "../../x", "CON", "Åsa Ünïcode 张", "👩‍💻" * 9, "x" * 10_000, "", "a\\b:c|d", "[red]x"]


def test_a_report_says_how_it_went(class_toy, solve, edit):
    """State, result, attempts, hints and failed tests of each exercise; the edited file word for word."""
    next_hint("91.1", class_toy)
    solve(up="self.value += 2")
    check("91", class_toy)
    edit("self.value += 2", "self.value += STEP")
    check("91", class_toy)
    made, left_out = report(class_toy, "Ada")
    first = made.exercises["91.1"]
    assert (first.state, first.solved, first.attempts, first.hints) == ("written", True, 2, 1)
    assert first.failures == {"test_counter.py::test_up": 1}
    assert made.exercises["91.2"].attempts == 1 and made.exercises["91.2"].failures == {}
    assert (made.name, made.course, left_out) == ("Ada", "1.2.3", [])
    name = "ch91_second/counter.py"
    assert made.files[name].text == (class_toy / "my" / name).read_text()


def test_nothing_personal_is_in_it(class_toy, solve):
    """No user, no machine, no folder, and no text at all where the files are kept back."""
    solve()
    text = report(class_toy, "Ada", with_code=False)[0].model_dump_json()
    for personal in (getpass.getuser(), platform.node(), str(class_toy), str(class_toy.parent)):
        assert json.dumps(personal)[1:-1] not in text, personal
    assert "sum(numbers)" not in text and '"sha256"' in text


def test_the_learner_reads_what_is_in_the_file(class_toy, solve, tmp_path):
    """Each part is named, and how to keep the files back."""
    solve()
    path = tmp_path / "report.json"
    path.write_text("x" * 5000)
    told = summary(report(class_toy, "Ada")[0], path, ["my/x.py: not UTF-8"])
    for words in (
        "(5 kB)",
        "name: Ada",
        "attempts",
        "hints",
        "Python 3",
        "random number",
        "CODE=no",
        "in it: my/x.py",
    ):
        assert words in told, words
    assert "my/ch91_second/counter.py" in told
    assert "digests alone" in summary(report(class_toy, "Ada", with_code=False)[0], path, [])


def test_one_learner_keeps_their_number(class_toy, solve):
    """So a newer report is known to be of the same learner."""
    assert report(class_toy, "Ada")[0].learner == report(class_toy, "Ada")[0].learner


@pytest.mark.parametrize("name", EVIL)
def test_no_name_is_a_path(class_toy, name):
    """A file's name is made of letters that every system takes."""
    made = report(class_toy, "x")[0].model_copy(update={"name": name})
    file = file_name(made)
    assert file.startswith("report-") and file.endswith(f"{made.learner[:8]}.json") and len(file) < 80
    assert set(file) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_names_are_short_and_can_be_printed():
    """Emoji of several parts can; control characters cannot."""
    assert typed_name(" 👩‍💻 Ada ") == "👩‍💻 Ada"
    for name in ("x" * 101, "a\x1b[31mb", "a\nb"):
        with pytest.raises(UserError, match="up to 100 characters"):
            typed_name(name)


def test_a_file_that_is_no_text_is_named(class_toy):
    """It is left out, and the report is written all the same."""
    (class_toy / "my/ch91_second/counter.py").write_bytes(b"# \xff\n")
    made, left_out = report(class_toy, "Ada")
    assert made.files == {} and made.exercises["91.1"].state == "unreadable"
    assert len(left_out) == 1 and left_out[0].startswith("my/ch91_second/counter.py: not UTF-8")


def test_attempts_and_time(work):
    """The same code twice is one attempt; a long break is no work; after the first success nothing counts."""
    work.note_check("a", False, ["tests/x/test_a.py::test_one[1]", "tests/x/test_a.py::test_one[2]"], 1000.0)
    work.note_check("a", False, ["tests/x/test_a.py::test_one[1]"], 1060.0)
    work.touch(1060.0 + BREAK + 1)
    work.note_check("b", True, [], 1060.0 + BREAK + 61)
    work.note_check("c", False, ["tests/x/test_a.py::test_one"], 1060.0 + BREAK + 99)
    expected = Work(2, 120.0, 1060.0 + BREAK + 61, "b", True, {"test_a.py::test_one": 1})
    assert work == expected


def test_a_clock_that_was_set_back_takes_nothing_away(work):
    """Minutes never become fewer."""
    work.touch(1000.0)
    work.touch(500.0)
    assert work.seconds == 0
