"""Files that strangers hand in: what is no report is named in one line, and only the newest of a learner counts."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from toolkit.commands.classroom import reading
from toolkit.commands.classroom.reading import read_folder
from toolkit.commands.classroom.report import report
from toolkit.commands.classroom.report_file import FORMAT, MOST_BYTES, read_report
from toolkit.errors import UserError

LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
def written(class_toy, solve, tmp_path):
    """A report as JSON, changed by a function, in a file."""
    solve()
    good = json.loads(report(class_toy, "Ada")[0].model_dump_json())

    def written(change=lambda content: None):
        content = json.loads(json.dumps(good))
        change(content)
        path = tmp_path / "report.json"
        path.write_text(json.dumps(content))
        return path

    return written


def files(name):
    """Gives a report's file another name."""

    def change(content):
        content["files"] = {name: next(iter(content["files"].values()))}

    return change


def test_a_good_report_is_read(written):
    assert read_report(written()).name == "Ada"


@pytest.mark.parametrize(
    "name",
    [
        "../ch91_second/counter.py",
        "ch91_second/../../x.py",
        "/ch91_second/counter.py",
        "C:/ch91_second/counter.py",
        "ch91_second\\counter.py",
        "ch91_second/CON.py",
        "ch91_second/nul/x.py",
        "ch91_second/counter.py\n",
        "ch91_second/counter.pyc",
        "ch91_second/" + "x" * 200 + ".py",
        "toolkit/x.py",
        "ch91_second/.base.py",
    ],
)
def test_a_file_that_is_no_module_of_a_chapter_breaks_a_report(written, name):
    with pytest.raises(UserError, match="^it is broken: "):
        read_report(written(files(name)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.update(name="x" * 20_001), "name: "),
        (lambda c: c.update(name=7), "name: "),
        (lambda c: c.update(learner="../../x"), "learner: "),
        (lambda c: c.update(more=1), "more: "),
        (lambda c: c.pop("written"), "written: "),
        (lambda c: c.update(release="=HYPERLINK()"), "release: "),
        (lambda c: c["exercises"]["91.1"].update(attempts=-1), "attempts: "),
        (lambda c: c["exercises"]["91.1"].update(minutes=float("nan")), "minutes: "),
        (lambda c: c["exercises"]["91.1"].update(attempts=10**400), "attempts: "),
        (lambda c: c["exercises"]["91.1"].update(state="<script>"), "state: "),
        (lambda c: c["exercises"].update({"<b>": c["exercises"]["91.1"]}), "exercises.<b>"),
        (lambda c: c["files"]["ch91_second/counter.py"].update(text="another"), "does not have the digest"),
    ],
)
def test_a_broken_report_is_one_line(written, change, says):
    """It says which part is wrong."""
    with pytest.raises(UserError) as error:
        read_report(written(change))
    assert says in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 400


HEAD = f'{{"format": "{FORMAT}", '


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a report"),
        (b"PK\x03\x04", "not a report"),
        (b"{}", "not a report"),
        (HEAD.encode(), "broken"),
        (f'{HEAD}"name": {"[" * 300_000}'.encode(), "broken"),
        (f'{HEAD}"name": "\\ud800"}}'.encode(), "broken"),
        (f'{HEAD}"name": "'.encode() + b'\xff"}', "broken"),
        (b"x" * (MOST_BYTES + 1), "larger than"),
    ],
    ids=["empty", "zip", "another", "half", "deep", "surrogate", "no UTF-8", "large"],
)
def test_what_is_no_report_is_one_line(tmp_path, content, says):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        read_report(tmp_path / "x")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_of_one_learner_the_newest_counts(hand_in):
    """A copy and an older report are named; another name, or another my/, is another learner."""
    hand_in("a.json", written=LATER)
    hand_in("b.json", written=LATER)
    hand_in("c.json")
    hand_in("d.json", name="Bea")
    folder = hand_in("e.json", learner="0" * 16)
    (folder / "inside").mkdir()
    (folder / "inside/notes.txt").write_text("x")
    (folder / "link.json").symlink_to(folder / "a.json")
    read = read_folder(folder)
    assert list(read.reports) == ["b.json", "e.json", "d.json"]
    assert read.left_out == {
        "a.json": "the same report as b.json",
        "c.json": "a newer report of the same learner is in b.json",
        "inside/notes.txt": "it is not a report of this course",
        "link.json": "it is a link",
    }


def test_a_folder_that_holds_no_reports(tmp_path, monkeypatch):
    """One that is not there, and one with more files than a class hands in."""
    with pytest.raises(UserError, match="there is no folder .*make collect FOLDER="):
        read_folder(tmp_path / "nothing")
    monkeypatch.setattr(reading, "MOST_FILES", 1)
    for name in "ab":
        (tmp_path / name).write_text(name)
    with pytest.raises(UserError, match="more than 1 files"):
        read_folder(tmp_path)
