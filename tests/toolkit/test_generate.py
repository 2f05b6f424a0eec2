"""Generation of chapters/: what a stub looks like, and that a learner's edits survive."""

import re

import pytest

from toolkit import course
from toolkit.commands.exercises.generate import find_drift, generate, read_manifest
from toolkit.commands.exercises.metadata import load, validate
from toolkit.commands.exercises.regions import find_regions
from toolkit.errors import UserError

COUNTER = "chapters/ch91_second/counter.py"
NOT_RUN = "it has no exercise; no command runs it"


def no(path):
    return False


@pytest.fixture
def edit(toy):
    """Replace text in chapters/, as learners did before they had my/."""

    def replace(old, new):
        text = (toy / COUNTER).read_text()
        assert old in text
        (toy / COUNTER).write_text(text.replace(old, new))

    return replace


def test_stub_keeps_everything_but_the_solution(toy):
    """Docstrings and given lines stay; each region becomes one raise with the exercise's message, at its indent."""
    text = (toy / COUNTER).read_text()
    assert "SOLUTION" not in text and "+= STEP" not in text and "for number" not in text
    assert '        """Count one step up."""\n        raise NotImplementedError("ch91 exercise 1: Count")\n' in text
    assert '    result = 0\n    raise NotImplementedError("ch91 exercise 2: Add up")\n    return result\n' in text
    compile(text, "counter.py", "exec")


def test_only_files_with_an_exercise_are_generated(toy):
    """What a learner has nothing to do in runs from solutions/, and a chapter without exercises has no folder."""
    assert [path.relative_to(toy).as_posix() for path in (toy / "chapters").rglob("*.py")] == [COUNTER]
    (toy / "solutions/ch90_first/step.py").write_text("STEP = 2\n")
    assert generate(toy, may_replace=no) == [] == find_drift(toy)


def test_chapters_holds_the_files_with_exercises_and_no_others():
    """The course itself: the metadata, the regions in solutions/ and the files that are generated are the same ones."""
    solutions = course.ROOT / "solutions"
    texts = {path.relative_to(solutions).as_posix(): path.read_text() for path in solutions.glob("ch*_*/**/*.py")}
    with_exercise = {name for name, text in texts.items() if "# BEGIN SOLUTION" in text}
    assert set(read_manifest()) == with_exercise == {f"{e.chapter}/{e.file}" for e in load().values()}
    assert with_exercise < set(texts)


def test_a_second_generation_changes_nothing(toy):
    """Generating twice is the same as once, and there is no drift."""
    assert generate(toy, may_replace=no) == []
    assert find_drift(toy) == []


def test_unedited_files_follow_the_solution(toy):
    """A file as generated is replaced when its solution changes, without a question."""
    solution = toy / "solutions/ch91_second/counter.py"
    solution.write_text(solution.read_text().replace("A counter", "The counter"))
    assert find_drift(toy) == [f"{COUNTER} was generated from an older solutions/ch91_second/counter.py"]
    assert generate(toy, may_replace=no) == [f"replaced {COUNTER}"]
    assert find_drift(toy) == []


def test_a_missing_file_comes_back(toy):
    """A learner's file that was deleted is drift, and is generated again."""
    (toy / COUNTER).unlink()
    assert find_drift(toy) == [f"{COUNTER} on disk is not as generated"]
    assert generate(toy, may_replace=no) == [f"wrote    {COUNTER}"]


def test_edits_are_kept_again_and_again(toy, edit):
    """A learner's file stays as it is when the solution changes, however often one generates."""
    edit('"""The sum."""', '"""The sum, I think."""')
    solution = toy / "solutions/ch91_second/counter.py"
    solution.write_text(solution.read_text().replace("A counter", "The counter"))
    for _ in range(2):
        assert generate(toy, may_replace=no) == [f"kept     {COUNTER} (edited)"]
        assert "I think" in (toy / COUNTER).read_text()
    assert find_drift(toy, on_disk=False) == []
    assert find_drift(toy) == [f"{COUNTER} on disk is not as generated"]


def test_edits_go_only_after_a_yes(toy, edit):
    """The question names the file, and a yes replaces it."""
    edit('"""The sum."""', '"""The sum, I think."""')
    asked = []
    assert generate(toy, may_replace=lambda path: asked.append(path) or True) == [f"replaced {COUNTER}"]
    assert asked == [COUNTER]


def add_exercise_file(root, name):
    """A second exercise file beside counter.py, generated."""
    text = (root / "solutions/ch91_second/counter.py").read_text()
    (root / f"solutions/ch91_second/{name}").write_text(text)
    assert generate(root, may_replace=no) == [f"wrote    chapters/ch91_second/{name}"]


def test_files_that_are_gone_go_unless_edited(toy, edit):
    """When a solution file is gone, its generated file goes too, but an edited one is kept."""
    add_exercise_file(toy, "other.py")
    edit("result = 0", "result = 0  # mine")
    for name in ("counter.py", "other.py"):
        (toy / "solutions/ch91_second" / name).unlink()
    assert generate(toy, may_replace=no) == [
        f"kept     {COUNTER} (edited; it has no exercise any more)",
        "removed  chapters/ch91_second/other.py",
    ]


def test_files_that_have_no_exercise_any_more_go_unless_edited(toy, edit):
    """An edited file whose exercise has gone elsewhere is kept."""
    add_exercise_file(toy, "other.py")
    edit("result = 0", "result = 0  # mine")
    for name in ("counter.py", "other.py"):
        (toy / "solutions/ch91_second" / name).write_text("def total(numbers):\n    return sum(numbers)\n")
    kept = f"kept     {COUNTER} (edited; it has no exercise any more)"
    assert generate(toy, may_replace=no) == [kept, "removed  chapters/ch91_second/other.py"]
    assert generate(toy, may_replace=lambda path: True) == [
        kept.replace("edited; it has no exercise any more", NOT_RUN)
    ]
    assert find_drift(toy) == [f"{COUNTER} is not generated: it has no exercise"]
    assert find_drift(toy, on_disk=False) == []


def test_a_learners_own_files_are_left_alone(toy):
    """Other files are kept and named."""
    for name in ("ch90_first/step.py", "ch91_second/notes.py"):
        (toy / "chapters" / name).parent.mkdir(exist_ok=True)
        (toy / "chapters" / name).write_text("STEP = 3\n")
    others = ("ch90_first/step.py", "ch91_second/notes.py")
    assert generate(toy, may_replace=no) == [f"kept     chapters/{name} ({NOT_RUN})" for name in others]
    assert len(find_drift(toy)) == 2 and find_drift(toy, on_disk=False) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n# BEGIN SOLUTION 1.1\n", "f.py:2: BEGIN SOLUTION has no END SOLUTION"),
        ("# END SOLUTION\n", "f.py:1: END SOLUTION without a BEGIN"),
        (
            "# BEGIN SOLUTION 1.1\n# BEGIN SOLUTION 1.2\n",
            "f.py:2: BEGIN SOLUTION inside the region that starts at line 1",
        ),
    ],
)
def test_unpaired_regions_are_named(text, message):
    """A forgotten region comment is refused with file and line."""
    with pytest.raises(UserError, match=message):
        find_regions(text, "f.py")


def test_metadata_agrees_with_the_toy_course(toy):
    """A course in order has nothing to report."""
    assert validate(load(toy), toy) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("toolkit/commands/exercises/exercises.toml", '["n", "c", "a"]', '["n", "c"]', "91.2: has 2 hints"),
        ("toolkit/commands/exercises/exercises.toml", '["total"]', '["sum_up"]', "91.2: .* no function sum_up"),
        (
            "toolkit/commands/exercises/exercises.toml",
            '["total"]',
            '["total", "Counter.__init__"]',
            "__init__ .* holds no region",
        ),
        ("solutions/ch91_second/counter.py", "SOLUTION 91.2", "SOLUTION 91.7", ":28: no exercise 91.7"),
        ("solutions/ch91_second/counter.py", "SOLUTION 91.2", "SOLUTION 91.1", "region of 91.1 lies in none of"),
        ("tests/ch91_second/test_counter.py", 'exercise("91.2")', 'exercise("91.1")', "91.2: no test in tests/ch91"),
    ],
)
def test_metadata_problems_are_named(toy, file, old, new, problem):
    """Each way in which metadata, solutions and tests can disagree is found and said."""
    path = toy / file
    path.write_text(path.read_text().replace(old, new))
    problems = "\n".join(validate(load(toy), toy))
    assert re.search(problem, problems), problems
