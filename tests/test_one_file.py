"""The engine in one file: up to date, complete, and the same engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.commands.one_file import TARGET, in_order, one_file
from toolkit.course import ROOT
from toolkit.errors import UserError


def test_the_file_is_what_the_chapters_say():
    assert (ROOT / TARGET).read_text(encoding="utf-8") == one_file(), (
        f"{TARGET} is out of date; make it with: python -m toolkit.commands.one_file"
    )


def test_it_says_whose_engine_it_is_and_that_there_is_a_faster_one():
    head = (ROOT / TARGET).read_text(encoding="utf-8").partition("\nimport ")[0]
    assert "engine of chapter 8" in head and "Chapter 9's engine gives the same tokens and is faster" in head


def test_each_part_lies_behind_what_it_needs_and_chapters_are_in_order():
    names = [module.name for module in in_order(ROOT)]
    assert names[-1] == "ch08_full_engine.full_engine"
    assert [name[:4] for name in names] == sorted(name[:4] for name in names)


def test_no_chapter_is_imported_and_no_marker_is_left():
    text = (ROOT / TARGET).read_text(encoding="utf-8")
    assert "SOLUTION" not in text
    assert not [line for line in text.splitlines() if line.startswith(("from ch0", "import ch0"))]


def small_course(root: Path, parts: dict[str, str]) -> Path:
    """A made-up course whose full engine imports the parts that are given."""
    imports = "".join(f"from ch02_parts.{name} import {name}\n" for name in parts)
    parts = {f"ch02_parts/{name}": text for name, text in parts.items()}
    for name, text in {**parts, "ch08_full_engine/full_engine": f'"""It."""\n\n{imports}\nENGINE = 1\n'}.items():
        path = root / "solutions" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_is_left_of_a_module(tmp_path: Path):
    """Imports go to the top, once; markers go; of a docstring the first paragraph stays."""
    part = (
        '"""A part.\n\nMore of it.\n"""\n\nfrom toolkit.errors import UserError\n\n\ndef part() -> None:\n    """Do it.'
        '\n\n    Really.\n    """\n    # BEGIN SOLUTION 2.1\n    raise UserError("x")\n    # END SOLUTION\n'
    )
    other = '"""Another."""\n\nfrom toolkit.errors import UserError, exit_cleanly\n\nother = UserError\n'
    text = one_file(small_course(tmp_path, {"part": part, "other": other}))
    assert "from toolkit.errors import UserError, exit_cleanly\n\n# ==== chapter 2: other.py ===" in text
    assert '# A part.\n\n\ndef part() -> None:\n    """Do it."""\n    raise UserError("x")\n' in text
    assert text.count("\nfrom ") == 1


def test_two_modules_with_one_name_are_an_error(tmp_path: Path):
    course = small_course(tmp_path, {"one": '"""One."""\n\none = same = 1\n', "two": '"""Two."""\n\ntwo = same = 2\n'})
    with pytest.raises(UserError, match=r"same is defined in solutions/ch02_parts\..* and in solutions/ch02_parts\."):
        one_file(course)


def test_two_imports_with_one_name_are_an_error(tmp_path: Path):
    one = '"""One."""\n\nfrom math import floor\n\none = floor\n'
    two = '"""Two."""\n\nfrom torch import floor\n\ntwo = floor\n'
    with pytest.raises(UserError, match="floor means something else in another module"):
        one_file(small_course(tmp_path, {"one": one, "two": two}))


@pytest.mark.long
def test_the_engines_own_tests_pass_on_the_one_file():
    """The sweeps and all else that is asked of chapter 8's engine, asked of this file."""
    tests = [ROOT / "tests" / "ch08_full_engine" / f"test_{name}.py" for name in ENGINE_TESTS]
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "tests.one_file_plugin",
            "-p",
            "no:cacheprovider",
            "-k",
            "not interrupt",  # these raise at lines of the chapters' files, by their names
            *map(str, tests),
        ],
        cwd=ROOT,
        env={**os.environ, "COURSE_CODE": "solutions"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]
    assert " passed" in run.stdout


ENGINE_TESTS = (
    "sweeps",
    "full_engine",
    "culprit",
    "metrics",
    "poison",
    "prefix_blocks",
    "forget_prefixes",
    "no_finite_logit",
)
