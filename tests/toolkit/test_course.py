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
    for folder in ("solutions", "chapters"):
        for chapter in ("ch90_first", "ch91_second"):
            package = tmp_path / folder / chapter
            package.mkdir(parents=True)
            (package / "__init__.py").write_text("")
            (package / "place.py").write_text(f"PLACE = {folder!r}\n")
    (tmp_path / "solutions/ch91_second/box.py").write_text(SOLUTION)
    (tmp_path / "chapters/ch91_second/box.py").write_text(STUB)
    return tmp_path


def places():
    return [importlib.import_module(f"{name}.place").PLACE for name in ("ch90_first", "ch91_second")]


@pytest.mark.parametrize(
    ("code", "chapter", "expected"),
    [
        ("solutions", None, ["solutions", "solutions"]),
        ("mine", None, ["chapters", "chapters"]),
        ("mine", "ch91", ["solutions", "chapters"]),
        ("mine", "90", ["chapters", "solutions"]),
    ],
)
def test_each_chapter_comes_from_the_chosen_folder(root, code, chapter, expected):
    """`use` maps every chapter package to the folder that was asked for."""
    course.use(code, chapter, root=root)
    assert places() == expected


def test_a_new_choice_forgets_what_was_imported(root):
    """After a second `use`, an import gives the newly chosen code and not the module from before."""
    course.use("solutions", root=root)
    assert places() == ["solutions", "solutions"]
    course.use("mine", root=root)
    assert places() == ["chapters", "chapters"]


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
        "Open chapters/ch91_second/box.py, line 16."
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
    path = root / "chapters/ch91_second/box.py"
    path.write_text(STUB.replace('raise NotImplementedError("ch91 exercise 1: get")', 'return "mine"'))
    capsys.readouterr()
    importlib.reload(box)
    assert (box.Box().get(), box.Box.put(1)) == ("mine", 4)
    assert "exercise 1" not in capsys.readouterr().out


def test_a_syntax_error_is_the_learners_own(root):
    """A broken file shows as the ordinary SyntaxError of that file and line."""
    path = root / "chapters/ch91_second/box.py"
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


def test_an_overlay_stands_in_for_the_file(root):
    """A planted text is what runs, and the file on disk is untouched."""
    course.use("solutions", root=root, overlay={("ch90_first", "place.py"): "PLACE = 'planted'\n"})
    assert places() == ["planted", "solutions"]
    assert "planted" not in (root / "solutions/ch90_first/place.py").read_text()


@pytest.mark.parametrize(
    ("setting", "expected", "line"),
    [
        (None, ["solutions", "chapters"], "your code, in chapters/ch91_second/ (other chapters and what is not solved"),
        ("mine", ["chapters", "chapters"], "your code, in chapters/ (all chapters; what is not solved yet runs as"),
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
path = pathlib.Path("chapters/ch91_second/box.py")


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
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_CODE"}
    environment |= {"PYTHONPATH": str(course.ROOT), "IPYTHONDIR": str(root / "ipython")}
    command = [sys.executable, "-c", NOTEBOOK]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    seen = [line for line in lines if line.startswith(("(", "mine", "my"))]
    expected = ["('reference', 'my helper')", "mine 4", "my helper! 4", "my helper! 4 box"]
    assert seen == expected, done.stdout + done.stderr
