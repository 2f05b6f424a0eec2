"""`make release`: a repository in which every exercise can be done, and no later solution be read."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import course, withheld
from toolkit.commands.classroom import bytecode
from toolkit.commands.classroom.publish import git, tracked_files
from toolkit.commands.classroom.release import release
from toolkit.commands.classroom.shown_parts import released, with_encoded_hints
from toolkit.commands.exercises.check import check
from toolkit.commands.exercises.generate import fresh_files
from toolkit.commands.exercises.hint import next_hint
from toolkit.commands.exercises.metadata import load
from toolkit.commands.exercises.wrong_answers import PAGE, QUESTIONS
from toolkit.commands.learner.shipped import digest
from toolkit.course import ROOT
from toolkit.errors import UserError

FILE = "solutions/ch91_second/counter.py"


def everything_in(repository: Path) -> str:
    """All that a reader of a repository can get at as text: its files, and every version of each in its history."""
    texts = [path.read_bytes() for path in repository.rglob("*") if path.is_file() and ".git" not in path.parts]
    listed = git(repository, "rev-list", "--all", "--objects").splitlines()
    objects = "\n".join(line.partition(" ")[0] for line in listed)
    done = subprocess.run(["git", "cat-file", "--batch"], cwd=repository, input=objects.encode(), capture_output=True)
    assert done.returncode == 0 and len(done.stdout) > 1000
    return b"\n".join([*texts, done.stdout]).decode("utf-8", "replace")


@pytest.fixture
def git_toy(toy):
    """The toy course as a repository that has a history and my/."""
    shutil.copy(ROOT / ".gitignore", toy)
    git(toy, "init", "--quiet")
    git(toy, "add", "--all")
    git(toy, "commit", "--quiet", "--message", "All of the course")
    return toy


@pytest.fixture
def target(tmp_path_factory):
    return tmp_path_factory.mktemp("class") / "course"


def test_a_later_solution_is_nowhere(git_toy, target):
    """Not in solutions/, the planted mistakes, or the history; given files are there, and of the exercise the gap."""
    told = release(90, target, git_toy)
    assert told[0] == f"{target} has the solutions up to chapter 90"
    text = everything_in(target)
    for line in (
        "self.value += STEP",
        "self.value -= STEP",
        "for number in numbers",
        "down_goes_up",
        "All of the course",
    ):
        assert line not in text, line
    assert (target / FILE).read_text() == (git_toy / "chapters/ch91_second/counter.py").read_text()
    assert (target / "solutions/ch90_first/step.py").read_text() == "STEP = 1\n"
    assert not (target / "my").exists() and git(target, "status", "--porcelain") == ""
    assert git(target, "log", "--format=%s %an").splitlines() == ["Solutions up to chapter 90 The course"]


def test_the_page_for_helpers_is_left_out():
    """With the questions that it is made of, which name planted mistakes; the other pages of docs/ stay."""
    for path in (PAGE, QUESTIONS):
        assert (ROOT / path).is_file() and released(path.as_posix(), "text", 5, {}) is None
    assert released("docs/instructors_guide.md", "text", 5, {}) == "text"


def test_the_reference_stands_in_all_the_same(git_toy, target, capsys):
    """In the release: of a half written exercise the rest, and all of it where the reference is asked for."""
    release(90, target, git_toy)
    assert course.use("solutions", root=target)
    from ch91_second.counter import Counter, total

    counter = Counter()
    counter.up()
    assert counter.value == 1 and total([1, 2, 3]) == 6
    assert Counter.up.__code__.co_filename.startswith(str(target)) and "counter.cpython" in total.__code__.co_filename
    assert check("91", target) == 1
    path = target / "my/ch91_second/counter.py"
    unsolved = '    raise NotImplementedError("ch91 exercise 2: Add up")\n'
    assert unsolved in path.read_text()
    path.write_text(path.read_text().replace(unsolved, "    result = sum(numbers)\n"))
    assert check("91.2", target) == 0
    assert "91.2 Add up: solved" in capsys.readouterr().out


def test_the_release_is_known_as_the_course(git_toy, target):
    """So a report from it is one of this course, and make update finds nothing new in it."""
    release(90, target, git_toy)
    assert digest(target) == digest(git_toy) and fresh_files(target) == fresh_files(git_toy)


def test_hints_are_encoded_and_given_one_by_one(git_toy, target):
    release(90, target, git_toy)
    assert "nudge" not in (target / "toolkit/commands/exercises/exercises.toml").read_text()
    assert load(target)["91.1"].hints == ("nudge", "closer", "answer")
    assert [next_hint("91.1", target) for _ in range(4)][-1].endswith("The solution comes with a later release.")


def test_the_next_release_is_a_commit(git_toy, target):
    """Learners pull it; a step back, which the history would undo, is refused, and so is another folder."""
    release(90, target, git_toy)
    assert "nothing has changed" in release(90, target, git_toy)[0]
    (target / "my").mkdir()
    release(91, target, git_toy)
    assert (target / FILE).read_text() == (git_toy / FILE).read_text()
    assert not withheld.is_withheld(target / FILE) and (target / "tests/ch91_second/mutants.toml").is_file()
    assert len(git(target, "log", "--format=%s").splitlines()) == 2
    with pytest.raises(UserError, match="has the solutions up to chapter 91, and so has its history"):
        release(90, target, git_toy)
    with pytest.raises(UserError, match="neither empty nor a release"):
        release(90, git_toy, git_toy)
    with pytest.raises(UserError, match="is no git repository"):
        tracked_files(target.parent)


def test_what_given_files_say_is_listed(git_toy, target):
    """A line that a given module has too cannot be hidden, so it is named."""
    line = "the_result = [number for number in numbers if number]"
    solution = git_toy / FILE
    solution.write_text(solution.read_text().replace("for number in numbers:\n        result += number", line))
    (git_toy / "solutions/ch91_second/given.py").write_text(f"def f(numbers):\n    {line}\n")
    git(git_toy, "add", "--all")
    release(90, target, git_toy)
    assert "  - `solutions/ch91_second/given.py`: 1 of exercise 91.2\n" in (target / "RELEASED.md").read_text()


def test_another_python_is_one_line(git_toy, target, monkeypatch):
    """It says for which versions there is something, and what to do."""
    release(90, target, git_toy)
    monkeypatch.setattr(sys.implementation, "cache_tag", "cpython-399")
    with pytest.raises(UserError, match=r"counter\.py runs on cpython-3.* alone, and this is cpython-399: make \.venv"):
        withheld.reference_code(target / FILE)


@pytest.mark.parametrize("version", bytecode.VERSIONS)
def test_bytecode_runs_on_each_version(version, tmp_path):
    """On those that this machine has: what one interpreter compiles, another process of that version can run."""
    found = bytecode.interpreters(str(path) for path in Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    tag = f"cpython-{version.replace('.', '')}"
    if tag not in found:
        pytest.skip(f"there is no Python {version} here")
    made = bytecode.compiled_by(
        found[tag], {"a.py": "class A:\n    def f(self):\n        return [x for x in (1, 2)]\n"}
    )
    (tmp_path / "code").write_bytes(made["a.py"])
    program = "import marshal; exec(marshal.loads(open('code', 'rb').read()[4:])); print(A().f())"
    done = subprocess.run([*found[tag], "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[1, 2]\n", done.stderr


def test_only_later_hints_are_encoded():
    """In the course's own metadata; what they say stays the same."""
    text = (ROOT / "toolkit/commands/exercises/exercises.toml").read_text(encoding="utf-8")
    exercises = load(ROOT)
    encoded = with_encoded_hints(text, 5, exercises)
    for id_, exercise in exercises.items():
        for hint in exercise.hints:
            assert (withheld.encode_hint(hint) in encoded) == (int(id_.split(".")[0]) > 5), id_


def solution_lines(after: int) -> set[str]:
    """Lines of later solutions that are long enough to say something; bugs, which are given, left out."""
    found = set()
    for path in (ROOT / "solutions").glob("ch*/**/*.py"):
        if int(path.relative_to(ROOT / "solutions").parts[0][2:4]) > after:
            for region in re.findall(r"# BEGIN SOLUTION.*?\n(.*?)# END SOLUTION", path.read_text("utf-8"), re.DOTALL):
                bug = set(re.findall(r"# BUG (.*)", region))
                found |= {line.strip() for line in region.splitlines()} - bug
    return {line for line in found if len(line) >= 25 and not line.startswith("#")}


@pytest.mark.long
def test_a_release_of_the_course(target, tmp_path):
    """Up to chapter 5: exercises of chapter 6 are checked, rightly and wrongly solved, and no solution can be read.

    The search goes through all files and through the history. What is found there is given, and listed.
    """
    release(5, target)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(target), str(clone))
    lines, text = solution_lines(after=5), everything_in(clone)
    assert len(lines) > 100
    found = {line for line in lines if line in text}
    listed = (clone / "RELEASED.md").read_text(encoding="utf-8")
    found_in_files: set[str] = set()
    for path in clone.rglob("*"):
        if path.is_file() and ".git" not in path.parts:
            shown = {line for line in found if line in path.read_text(encoding="utf-8", errors="ignore")}
            # Bytecode holds docstrings, which the file beside it shows too.
            name = re.sub(r"\.cpython-\d+\.bytecode$", ".py", path.relative_to(clone).as_posix())
            assert not shown or f"`{name}`" in listed, f"{name} says {shown}"
            found_in_files |= shown
    assert found == found_in_files, "in the history alone"
    assert len(found) < len(lines) / 5, sorted(found)

    environment = {key: value for key, value in os.environ.items() if key not in ("COURSE_CODE", "PYTHONPATH")}

    def run_check(exercise):
        command = [sys.executable, "-m", "toolkit.commands.exercises.check", exercise]
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, encoding="utf-8")
        return done.returncode, done.stdout + done.stderr

    code, said = run_check("6.1")
    assert code == 1 and "6.1 A few sizes for all batches: not started" in said, said
    bucket = (ROOT / "solutions/ch06_graphs/buckets.py").read_text(encoding="utf-8")
    mine = clone / "my/ch06_graphs/buckets.py"
    mine.write_text(bucket, encoding="utf-8")
    code, said = run_check("6.1")
    assert code == 0 and "6.1 A few sizes for all batches: solved" in said, said
    mine.write_text(bucket.replace("size >= rows", "size > rows"), encoding="utf-8")
    code, said = run_check("6.1")
    assert code == 1 and "6.1 A few sizes for all batches: not solved yet" in said, said

    # Of one class, one exercise is the learner's, and the others are still to be written: bytecode stands in for them.
    lines = (ROOT / "solutions/ch06_graphs/graph_forward.py").read_text(encoding="utf-8").splitlines(keepends=True)
    first, last = (
        next(n for n, line in enumerate(lines) if mark in line) for mark in ("BEGIN SOLUTION 6.2", "return graph")
    )
    mine = clone / "my/ch06_graphs/graph_forward.py"
    stub = mine.read_text(encoding="utf-8").splitlines(keepends=True)
    gap = next(number for number, line in enumerate(stub) if "ch06 exercise 2" in line)
    stub[gap : gap + 1] = lines[first + 1 : last + 1]
    mine.write_text("".join(stub), encoding="utf-8")
    code, said = run_check("6.2")
    assert code == 0 and ": solved" in said, said
    mine.write_text("".join(stub).replace("pool=self.pool, ", ""), encoding="utf-8")
    code, said = run_check("6.2")
    assert code == 1 and "not solved yet" in said and "in the reference" not in said, said
    assert git(clone, "status", "--porcelain") == ""
