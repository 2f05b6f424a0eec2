"""Which code runs: the finder, the filling of unsolved exercises, and what a lesson prints."""

import importlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from toolkit import course
from toolkit.errors import UserError
from toolkit.report_lines import rank_of

SOLUTION = '''"""Toy."""
from functools import wraps


def twice(function):
    @wraps(function)
    def wrapper(*args):
        return 2 * function(*args)

    return wrapper


class Box:
    size = 1

    def get(self):
        """Docstring."""
        # BEGIN SOLUTION 91.1
        return ("reference", helper())
        # END SOLUTION

    @staticmethod
    @twice
    def put(x):
        # BEGIN SOLUTION 91.2
        return x + 1
        # END SOLUTION

    @property
    def name(self):
        # BEGIN SOLUTION 91.2
        return "box"
        # END SOLUTION


def helper():
    return "reference helper"
'''

STUB = '''"""Toy."""
from functools import wraps


def twice(function):
    @wraps(function)
    def wrapper(*args):
        return 2 * function(*args)

    return wrapper


class Box:
    size = 1

    def get(self):
        """Docstring."""
        raise NotImplementedError("ch91 exercise 1: get")

    @staticmethod
    @twice
    def put(x):
        raise NotImplementedError("ch91 exercise 2: put")

    @property
    def name(self):
        raise NotImplementedError("ch91 exercise 2: put")


def helper():
    return "my helper"
'''


@pytest.fixture
def root(tmp_path, restore_choice):
    """A course of two chapters; each file says where it stands."""
    for folder in ("solutions", "my"):
        for chapter in ("ch90_first", "ch91_second"):
            package = tmp_path / folder / chapter
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("")
            (package / "place.py").write_text(f"PLACE = {folder!r}\n")
    (tmp_path / "solutions/ch91_second/box.py").write_text(SOLUTION)
    (tmp_path / "my/ch91_second/box.py").write_text(STUB)
    return tmp_path


def places():
    return [importlib.import_module(f"{name}.place").PLACE for name in ("ch90_first", "ch91_second")]


@pytest.mark.parametrize(
    ("code", "chapter", "expected"),
    [
        ("solutions", None, ["solutions", "solutions"]),
        ("mine", None, ["my", "my"]),
        ("mine", "ch91", ["solutions", "my"]),
        ("mine", "90", ["my", "solutions"]),
    ],
)
def test_each_chapter_comes_from_the_chosen_folder(root, code, chapter, expected):
    """`use` maps every chapter package to the folder that was asked for."""
    course.use(code, chapter, root=root)
    assert places() == expected


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def mixed(root):
    """Chapter 91 with files and a sub-package, of which my/ holds some only, and no __init__.py."""
    for name in ("both", "given", "deep/__init__", "deep/both", "deep/given"):
        write(root / f"solutions/ch91_second/{name}.py", "PLACE = 'solutions'\n")
    for name in ("both", "new", "deep/both", "deep/new"):
        write(root / f"my/ch91_second/{name}.py", "PLACE = 'my'\n")
    (root / "my/ch91_second/__init__.py").unlink()
    write(root / "solutions/ch91_second/__init__.py", "from ch91_second.both import PLACE\n")
    return root


@pytest.mark.parametrize("within", ["ch91_second", "ch91_second.deep"])
def test_the_files_of_one_package_come_from_both_folders(mixed, within):
    """A file in my/ runs from there, also a new one, and any other one from solutions/: packages and all."""
    course.use("mine", "ch91", root=mixed)
    seen = {name: importlib.import_module(f"{within}.{name}") for name in ("both", "given", "new")}
    assert {name: module.PLACE for name, module in seen.items()} == {
        "both": "my",
        "given": "solutions",
        "new": "my",
    }
    for module in seen.values():
        assert Path(module.__file__).is_relative_to(mixed / module.PLACE)
    assert Path(importlib.import_module(within).__file__).is_relative_to(mixed / "solutions")
    assert importlib.import_module("ch91_second").PLACE == "my", "its __init__ imports what is the learner's"


def test_the_reference_takes_nothing_from_the_learners_folder(mixed):
    """With the reference, and for a chapter that is not the learner's, a file in my/ is not seen."""
    for choice in (("solutions", None), ("mine", "ch90")):
        course.use(*choice, root=mixed)
        assert importlib.import_module("ch91_second.both").PLACE == "solutions"
        with pytest.raises(ModuleNotFoundError, match="No module named 'ch91_second.deep.new'"):
            importlib.import_module("ch91_second.deep.new")


def test_a_copy_runs_as_soon_as_it_lies_there(mixed):
    """A learner who copies a file of solutions/ changes what runs, an __init__.py too; deleting it takes that back."""
    for name in ("given", "__init__"):
        module = "ch91_second" + f".{name}" * (name == "given")
        copy = mixed / f"my/ch91_second/{name}.py"
        write(copy, "PLACE = 'my copy'\n")
        course.use("mine", root=mixed)
        assert importlib.import_module(module).PLACE == "my copy"
        assert importlib.import_module("ch91_second.deep.given").PLACE == "solutions"
        copy.unlink()
        course.use("mine", root=mixed)
        assert importlib.import_module(module).PLACE == ("solutions" if name == "given" else "my")


@pytest.mark.parametrize("fill", [True, False])
def test_a_missing_file_with_an_exercise_is_an_error(root, fill):
    """The reference does not stand in unsaid: one line names the file and what brings it back."""
    (root / "my/ch91_second/box.py").unlink()
    course.use("mine", fill=fill, root=root)
    with pytest.raises(UserError) as caught:
        importlib.import_module("ch91_second.box")
    assert str(caught.value) == (
        "my/ch91_second/box.py is not there; bring it back with: make start (python -m toolkit.commands.learner.start)"
    )
    course.use("mine", "ch90", fill=fill, root=root)
    assert importlib.import_module("ch91_second.box").Box, "a chapter that is the reference anyway needs no file"


def test_a_new_choice_forgets_what_was_imported(root):
    """After a second `use`, an import gives the newly chosen code and not the module from before."""
    course.use("solutions", root=root)
    assert places() == ["solutions", "solutions"]
    course.use("mine", root=root)
    assert places() == ["my", "my"]


def test_unknown_code_and_chapter_are_one_line(root):
    """A wrong COURSE_CODE and a chapter that does not exist are refused with what would be right."""
    with pytest.raises(UserError, match='COURSE_CODE is \'yours\'; it must be "mine", "solutions"'):
        course.use("yours", root=root)
    with pytest.raises(UserError, match="no chapter '7'; there are ch90_first, ch91_second"):
        course.use("mine", "7", root=root)


def test_unsolved_functions_are_filled_and_call_the_learners_code(root, capsys):
    """Filled methods, decorated ones and properties run as the reference, with the learner's globals."""
    course.use("mine", fill=True, root=root)
    from ch91_second.box import Box

    assert Box().get() == ("reference", "my helper")
    assert (Box.put(1), Box().name) == (4, "box")
    assert capsys.readouterr().out.splitlines()[0] == (
        "ch91 exercise 1 (box.py, Box.get) is not solved yet; the reference solution stands in. "
        "Open my/ch91_second/box.py, line 16."
    )


def test_without_fill_the_placeholder_raises(root):
    """Without `fill` an unsolved exercise raises its own message."""
    course.use("mine", root=root)
    from ch91_second.box import Box

    with pytest.raises(NotImplementedError, match="ch91 exercise 1: get"):
        Box().get()


def test_reload_takes_the_edit_and_fills_the_rest_again(root, capsys):
    """After an edit and a reload the edited function is the learner's, the unsolved one the reference's."""
    course.use("mine", fill=True, root=root)
    box = importlib.import_module("ch91_second.box")
    path = root / "my/ch91_second/box.py"
    path.write_text(STUB.replace('raise NotImplementedError("ch91 exercise 1: get")', 'return "mine"'))
    capsys.readouterr()
    importlib.reload(box)
    assert (box.Box().get(), box.Box.put(1)) == ("mine", 4)
    assert "exercise 1" not in capsys.readouterr().out


def test_a_syntax_error_is_the_learners_own(root):
    """A broken file shows as the ordinary SyntaxError of that file and line."""
    path = root / "my/ch91_second/box.py"
    path.write_text(STUB + "def broken(:\n")
    course.use("mine", fill=True, root=root)
    with pytest.raises(SyntaxError) as caught:
        importlib.import_module("ch91_second.box")
    assert Path(caught.value.filename) == path
    assert caught.value.lineno == STUB.count("\n") + 1


def test_a_traceback_from_filled_code_names_the_solution_file(root):
    """An exception inside a filled function points to solutions/, where the running text stands."""
    course.use("mine", fill=True, root=root)
    from ch91_second.box import Box

    with pytest.raises(TypeError) as caught:
        Box.put("x")
    assert "solutions" in traceback.extract_tb(caught.value.__traceback__)[-1].filename


def test_an_overlay_stands_in_for_files_of_both_folders(mixed):
    """With the learner's code a text can be planted over their file, or over one that only the reference has."""
    planted = {("ch91_second", f"{name}.py"): f"PLACE = 'planted {name}'\n" for name in ("both", "deep/given")}
    course.use("mine", root=mixed, overlay=planted)
    assert importlib.import_module("ch91_second.both").PLACE == "planted both"
    assert importlib.import_module("ch91_second.deep.given").PLACE == "planted deep/given"
    assert importlib.import_module("ch91_second.given").PLACE == "solutions"


def test_reports_rank_a_file_by_the_folder_that_it_lies_in(mixed):
    """In a learner's chapter, a given file of solutions/ counts as the reference, the learner's own file for more."""
    course.use("mine", "ch91", root=mixed)
    ranks = {}
    for name in ("both", "given", "deep.both", "deep.given"):
        ranks[name] = rank_of(importlib.import_module(f"ch91_second.{name}").__file__)
    assert ranks == {"both": 192, "given": 92, "deep.both": 192, "deep.given": 92}


def test_an_overlay_stands_in_for_the_file(root):
    """A planted text is what runs, and the file on disk is untouched."""
    course.use("solutions", root=root, overlay={("ch90_first", "place.py"): "PLACE = 'planted'\n"})
    assert places() == ["planted", "solutions"]
    assert "planted" not in (root / "solutions/ch90_first/place.py").read_text()


@pytest.mark.parametrize(
    ("setting", "expected", "line"),
    [
        (None, ["solutions", "my"], "your code, in my/ch91_second/ (all other files and what is"),
        (
            "mine",
            ["my", "my"],
            "your code, in my/ (all other files and what is not solved yet run as",
        ),
        ("solutions", ["solutions", "solutions"], "the reference solutions, in solutions/"),
    ],
)
def test_open_chapter_follows_course_code(root, monkeypatch, capsys, setting, expected, line):
    """A lesson runs what COURSE_CODE says, and prints it in words."""
    monkeypatch.delenv("COURSE_CODE", raising=False)
    if setting is not None:
        monkeypatch.setenv("COURSE_CODE", setting)
    course.open_chapter("ch91", root=root)
    assert places() == expected
    assert line in capsys.readouterr().out


NOTEBOOK = """
import os, pathlib
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
path = pathlib.Path("my/ch91_second/box.py")


def cell(source):
    print("cell:", source)
    shell.run_cell(source).raise_error()


def edit(old, new):
    before = path.stat().st_mtime_ns
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    os.utime(path, ns=(before + 2 * 10**9, before + 2 * 10**9))


cell("from pathlib import Path; from toolkit.course import open_chapter; open_chapter('ch91', root=Path.cwd())")
cell("from ch91_second.box import Box; box = Box(); print(box.get())")
edit('raise NotImplementedError("ch91 exercise 1: get")', 'return "mine"')
cell("print(box.get(), Box.put(1))")
edit('return "mine"', 'return helper() + "!"')
edit("raise NotImplementedError", "y = x; raise NotImplementedError")
cell("print(box.get(), Box.put(1))")
edit("import wraps", "import wraps, reduce")
cell("print(box.get(), Box.put(1), Box().name)")
"""


def test_edits_take_effect_in_a_running_notebook(root):
    """With autoreload, an edited function is the learner's at once, and the unsolved rest stays filled."""
    (root / "my/ch91_second/__init__.py").unlink()  # as in the course: it has no exercise
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_CODE"}
    environment |= {"PYTHONPATH": str(course.ROOT), "IPYTHONDIR": str(root / "ipython")}
    command = [sys.executable, "-c", NOTEBOOK]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    seen = [line for line in lines if line.startswith(("(", "mine", "my"))]
    expected = ["('reference', 'my helper')", "mine 4", "my helper! 4", "my helper! 4 box"]
    assert seen == expected, done.stdout + done.stderr
