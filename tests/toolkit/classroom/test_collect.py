"""`make collect`: a table and pages in which strangers' words do no harm; no result is worked out twice."""

import csv
import io
import json
import os
import stat
import subprocess
import sys

import pytest
from rich.console import Console

from toolkit.commands.classroom.cells import cell, shown
from toolkit.commands.classroom.collect import NOT_RAN, RAN, collect
from toolkit.commands.classroom.jobs import Results, course_digest, jobs_of
from toolkit.commands.classroom.processes import Limits, OverLimit, end, watch
from toolkit.commands.classroom.reading import read_folder
from toolkit.commands.classroom.rerun import rerun
from toolkit.commands.classroom.running import Running
from toolkit.commands.classroom.sandbox import Sandbox, find_container
from toolkit.commands.exercises.metadata import load
from toolkit.errors import UserError

from .test_report import EVIL

WRONG = {
    "verdict": "fails",
    "failures": [{"test": "t.py::test_up", "says": "Up", "message": "<script>alert(1)</script>"}],
}
RIGHT = {"verdict": "solved", "failures": []}


class Checks:
    """Stands in for a sandbox: notes what is run, and says what it is told to."""

    def __init__(self):
        self.ran = []
        self.says = {"91.1": RIGHT, "91.2": RIGHT}

    def run(self, sandbox, folder, arguments):
        self.ran.append((arguments, (folder / "my/ch91_second/counter.py").read_text()))
        if isinstance(self.says, Exception):
            raise self.says
        return json.dumps({"exercises": {id_: self.says[id_] for id_ in arguments[1:]}}).encode()


@pytest.fixture
def checks(monkeypatch):
    checks = Checks()
    monkeypatch.setattr(Sandbox, "run", lambda *arguments: checks.run(*arguments))
    return checks


@pytest.fixture
def collected(class_toy, tmp_path):
    """Collect a folder; returns the CSV's lines as dictionaries, and what was printed."""

    def collected(folder, how="trust"):
        out, printed = tmp_path / "out", io.StringIO()
        collect(folder, out, Running(how, workers=2), class_toy, Console(file=printed, width=200))
        rows = list(csv.DictReader(io.StringIO((out / "table.csv").read_text(encoding="utf-8-sig"))))
        return rows, printed.getvalue()

    return collected


def test_only_what_is_new_is_run(solve, edit, hand_in, collected, checks):
    """Two learners with the same file share a run; a second call runs nothing, a changed file is run again."""
    solve()
    hand_in("a.json")
    folder = hand_in("b.json", name="Bea")
    rows, _ = collected(folder)
    assert [row["91.1"] for row in rows] == ["solved", "solved"]
    assert [arguments for arguments, _ in checks.ran] == [["ch91_second", "91.1", "91.2"]]
    collected(folder)
    assert len(checks.ran) == 1
    edit("sum(numbers)", "sum(numbers) + 0")
    hand_in("c.json", name="Cleo")
    collected(folder)
    assert len(checks.ran) == 2 and "sum(numbers) + 0" in checks.ran[1][1]


def test_a_changed_course_is_another(class_toy, solve, hand_in):
    """What its tests say now may be something else."""
    solve()
    report = read_folder(hand_in("a.json")).reports["a.json"]
    keys = []
    for text in ("", "# another\n"):
        tests = class_toy / "tests/ch91_second/test_counter.py"
        tests.write_text(tests.read_text() + text)
        keys += [job.key for job in jobs_of(report, load(class_toy), course_digest(class_toy))]
    assert len(set(keys)) == 2


def test_a_verdict_on_the_code_is_kept_and_a_failed_run_is_not(solve, hand_in, collected, checks):
    """Code that took too long would do so again; a container that did not start may start the next time."""
    solve()
    folder = hand_in("a.json")
    checks.says = UserError("the check ended with code 125: no space")
    assert "could not be run: the check ended with code 125" in collected(folder)[0][0]["remarks"]
    checks.says = OverLimit("it took more than 9 seconds")
    assert "ended: it took more than 9 seconds" in collected(folder)[0][0]["remarks"]
    collected(folder)
    assert len(checks.ran) == 2


@pytest.mark.parametrize("answer", [b"", b"[" * 100_000, b'{"exercises": {"91.1": {"verdict": "great"}}}'])
def test_an_answer_that_is_none(class_toy, solve, hand_in, monkeypatch, tmp_path, answer):
    """It comes from where strangers' code ran."""
    solve()
    (job,) = jobs_of(read_folder(hand_in("a.json")).reports["a.json"], load(class_toy), "")
    monkeypatch.setattr(Sandbox, "run", lambda *arguments: answer)
    found = Results(tmp_path, class_toy).find(job, Sandbox(tmp_path))
    assert {each.failures[0].message for each in found.values()} == {
        "could not be run: the check's answer cannot be read"
    }
    assert list(tmp_path.glob("*.json")) == []


def test_without_a_container_nothing_runs(solve, hand_in, collected, checks, monkeypatch, capsys, tmp_path):
    """The table says what the reports say, and that it does."""
    monkeypatch.setattr("toolkit.commands.classroom.running.find_container", lambda image: "")
    solve()
    rows, printed = collected(hand_in("a.json"), how="container")
    assert checks.ran == [] and rows[0]["91.1"] == "started"
    said = capsys.readouterr().out
    assert NOT_RAN in said and "TRUST=1" in said
    assert NOT_RAN in (tmp_path / "out/index.html").read_text() and RAN not in (tmp_path / "out/index.html").read_text()


def test_what_was_reported_and_is_not_so_is_named(class_toy, solve, hand_in, collected, checks):
    """A report can be typed by hand; so are copies of one my/, and the same name twice."""
    solve()
    folder = hand_in("a.json")
    report = read_folder(folder).reports["a.json"]
    typed = {id_: each.model_copy(update={"solved": True}) for id_, each in report.exercises.items()}
    hand_in("b.json", name="Bea", exercises=typed, release="another")
    hand_in("c.json", name="Bea", learner="0" * 16)
    checks.says = {"91.1": WRONG, "91.2": RIGHT}
    ada, bea, other = collected(folder)[0]
    assert ada["remarks"] == "another report comes from a copy of the same my/"
    assert "another release" in bea["remarks"] and "not when run again: 91.1" in bea["remarks"]
    assert bea["91.1"] == "fails" and bea["solved when run again"] == "1" and bea["reported as solved"] == "2"
    assert other["remarks"] == "another learner has this name too"


def test_strangers_words_do_no_harm(solve, hand_in, collected, checks, tmp_path, capsys):
    """No cell is a formula, no file is named by them, no page has their markup, and each is on one short line."""
    solve()
    checks.says = {"91.1": WRONG, "91.2": RIGHT}
    evil = [*EVIL, "@SUM(1)", "+1", "-1", "\t=1", "\u202eabc", "a\nb\rc", "＝1", '<img src="x">']
    for number, name in enumerate(evil):
        folder = hand_in(f"{number}.json", name=name, learner=f"{number:016x}")
    (folder / "=cmd|x.json").write_text("x")
    rows, printed = collected(folder)
    assert len(rows) == len(evil)
    for row in rows:
        assert not row["name"].startswith(("=", "+", "-", "@", "\t", "\r", "＝")) and len(row["name"]) <= 61
        assert row["name"].replace("\u200d", "").isprintable()
    assert "[red]x" in printed and "\u202e" not in printed
    assert "left out: =cmd|x.json: it is not a report" in capsys.readouterr().out
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    pages = {"index.html", "exercise-91.1.html", "exercise-91.2.html"}
    assert {name for name in made if not name.startswith("results/")} == {"table.csv", *pages}
    for page in pages:
        text = (tmp_path / "out" / page).read_text(encoding="utf-8")
        assert "<script" not in text and "<img" not in text
    assert "&lt;script&gt;alert(1)" in (tmp_path / "out/exercise-91.1.html").read_text(encoding="utf-8")


def test_a_page_says_what_a_class_did(class_toy, solve, edit, hand_in, collected, checks, tmp_path):
    """How many solved it, minutes, attempts, hints, failed tests; and no learner's name."""
    solve()
    folder = hand_in("a.json", name="Ada Lovelace")
    each = read_folder(folder).reports["a.json"].exercises["91.1"]
    for number, minutes in enumerate((10.0, 20.0, 60.0)):
        changed = each.model_copy(update={"attempts": 2 + number, "minutes": minutes, "hints": number, "failures": {}})
        hand_in(f"{number}.json", name=f"Nr {number}", learner=f"{number:016x}", exercises={"91.1": changed})
    failed = each.model_copy(update={"failures": {"test_counter.py::test_down": 3}})
    hand_in("a.json", name="Ada Lovelace", exercises={"91.1": failed})
    collected(folder)
    text = " ".join((tmp_path / "out/exercise-91.1.html").read_text(encoding="utf-8").split())
    assert "4 of 4 solved it" in text and RAN in text
    assert 'on, median of those who solved it</td> <td class="number">20</td>' in text
    assert 'attempts, median of those who solved it</td> <td class="number">3</td>' in text
    assert 'learners who took 1 hint</td><td class="number">1</td>' in text
    assert 'test_counter.py::test_down </td> <td class="number">1</td><td class="number">0</td>' in text
    assert "Ada" not in text and "Nr 1" not in text


def test_no_report_at_all_is_an_error(class_toy, tmp_path, capsys):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/notes.txt").write_text("x")
    with pytest.raises(UserError, match="no report that counts"):
        collect(tmp_path / "x", tmp_path / "out", Running("no"), class_toy)
    assert "left out: notes.txt" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_the_verdict_is_that_of_make_check(class_toy, solve):
    """Solved and failing are told apart."""
    solve(up="self.value += 2")
    verdicts = rerun("ch91_second", ["91.1", "91.2"], class_toy).exercises
    assert [verdicts[id_].verdict for id_ in ("91.1", "91.2")] == ["fails", "solved"]
    (failure,) = verdicts["91.1"].failures
    assert failure.test == "test_counter.py::test_up" and failure.message == "after one up() the value is 2, not 1"


@pytest.mark.long
def test_a_file_that_cannot_be_loaded_is_no_pass(class_toy, solve):
    solve()
    path = class_toy / "my/ch91_second/counter.py"
    path.write_text(path.read_text() + "\nimport nothing_here\n")
    broken = rerun("ch91_second", ["91.2"], class_toy).exercises["91.2"]
    assert broken.verdict == "not tested" and "nothing_here" in broken.failures[0].message


@pytest.mark.long
def test_handed_in_files_are_checked_in_a_process(whole_toy, solve, hand_in, collected, tmp_path):
    """All of it, without a stand-in: one learner is right, one is wrong, and the course itself is not touched."""
    solve()
    folder = hand_in("a.json")
    path = whole_toy / "my/ch91_second/counter.py"
    path.write_text(path.read_text().replace("result = sum(numbers)", "open('x', 'w'); result = 7"))
    hand_in("b.json", name="Bea")
    rows, _ = collected(folder)
    assert [(row["91.1"], row["91.2"]) for row in rows] == [("solved", "solved"), ("solved", "fails")]
    assert not list(whole_toy.glob("**/x")), "written in the course, not in the copy of it"


@pytest.mark.parametrize(
    ("program", "limits", "says"),
    [
        ("import time; time.sleep(60)", Limits(seconds=0.1), "more than 0 seconds"),
        ("x = bytearray(300_000_000); import time; time.sleep(60)", Limits(memory_mb=200), "200 MB of memory"),
        (
            "open('x', 'wb').write(bytes(3_000_000)); import time; time.sleep(60)",
            Limits(output_mb=2),
            "wrote more than 2",
        ),
        (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', 'x = bytearray(300_000_000);"
            " import time; time.sleep(60)'])",
            Limits(memory_mb=200),
            "200 MB of memory",
        ),
    ],
    ids=["time", "memory", "output", "memory of a child"],
)
def test_what_takes_too_much_is_ended(tmp_path, program, limits, says):
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    with pytest.raises(OverLimit, match=says):
        watch(process, tmp_path, limits)
    end(process)
    assert process.returncode != 0


@pytest.fixture
def fake_docker(tmp_path, monkeypatch):
    """A program called docker that notes its arguments; it has an image if there is a file of that name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker"
    program.write_text(
        f'#!{sys.executable}\nimport sys, json, pathlib\nhere = pathlib.Path("{tmp_path}")\nargs = sys.argv[1:]\n'
        '(here / "calls").open("a").write(json.dumps(args) + "\\n")\n'
        'if args[0] == "image": sys.exit(0 if (here / args[-1]).exists() else 1)\n'
        'if args[0] == "run": print(json.dumps({"exercises": {}}))\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for docker is a script")
def test_a_container_has_no_network_and_writes_nowhere(fake_docker, tmp_path):
    """Without its image there is one line that says how to make it."""
    with pytest.raises(UserError, match="docker build -f binder/Dockerfile -t stepahead-course"):
        find_container()
    (tmp_path / "stepahead-course").touch()
    assert find_container() == "docker"
    (tmp_path / "job/my").mkdir(parents=True)
    Sandbox(tmp_path / "stage", "docker").run(tmp_path / "job", ["ch91_second", "91.1"])
    (run,) = (call for call in fake_docker() if call[0] == "run")
    line = " ".join(run)
    for setting in ("--network none", "--read-only", "--cap-drop ALL", "--memory 4000m", "--user 65534:65534"):
        assert setting in line
    assert f"{tmp_path}/stage:/course:ro" in line and f"{tmp_path}/job/my:/course/my:ro" in line
    assert line.endswith("stepahead-course python -m toolkit.commands.classroom.rerun ch91_second 91.1")


def test_no_container_program(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_container() == ""


def test_cells():
    """Numbers stay numbers; a long text is cut, and what follows spaces counts as the beginning."""
    assert cell(3) == 3 and cell("  =1") == "'=1" and cell("a=1") == "a=1"
    assert shown("x" * 10_000) == "x" * 59 + "…" and shown("a\t\nb\x00c") == "a b c"
