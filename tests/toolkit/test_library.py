"""What the library is made from: which modules, and what cannot be one of them."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from toolkit.commands.library import gather as gathering
from toolkit.commands.library.gather import OWN, gather, name_in_package
from toolkit.commands.library.rewrite import asked_for, rewritten
from toolkit.commands.sources import Module
from toolkit.course import ROOT
from toolkit.errors import UserError


def in_package(text: str, allowed=("torch",)) -> str:
    return rewritten(Module("toolkit.part", Path("part.py"), text), allowed)


def test_imports_lie_one_level_lower():
    """At the top, in functions, for type checkers, of modules and of packages; nothing else changes."""
    text = '''"""A part.

    from toolkit.part import part
"""

import os
from toolkit import course, simgpu
from toolkit.commands.library.stepahead.run import main
from ch02_continuous_batching import Request
if TYPE_CHECKING:
    import toolkit.errors as errors
def part():
    from ch02_continuous_batching.build import build
    return "from toolkit"
'''
    assert in_package(text).splitlines()[2:] == [
        "    from stepahead.toolkit.part import part",
        '"""',
        "",
        "import os",
        "from stepahead.toolkit import course, simgpu",
        "from stepahead.run import main",
        "from stepahead.ch02_continuous_batching import Request",
        "if TYPE_CHECKING:",
        "    import stepahead.toolkit.errors as errors",
        "def part():",
        "    from stepahead.ch02_continuous_batching.build import build",
        '    return "from toolkit"',
    ]


def test_markers_of_exercises_go():
    assert in_package("# BEGIN SOLUTION 2.1\nx = 1\n# END SOLUTION\n") == "x = 1\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("from . import errors", "line 1: a relative import"),
        ("import toolkit.errors", r"line 1: import toolkit\.errors"),
        ("if x: from toolkit import errors", "imports toolkit: write the import on a line of its own"),
        ("import os, ch02_continuous_batching", "line 1: import os, ch02_continuous_batching"),
        ("from importlib import import_module", "line 1: import_module"),
        ("import importlib\nimportlib.import_module(x)", "line 2: import_module"),
        ("__import__(x)", "line 1: __import__"),
        ('\nuse("ch01_naive_loop")', "line 2: the name of a module in a string, 'ch01_naive_loop'"),
        ('x = "toolkit.errors"', "line 1: the name of a module in a string, 'toolkit.errors'"),
        ("def f():\n    import pandas.core", "imports pandas: pyproject.toml does not ask for it"),
        ("from pandas import x", "imports pandas: pyproject.toml does not ask for it"),
    ],
)
def test_what_would_not_work_in_the_package_is_an_error_when_it_is_built(text, words):
    with pytest.raises(UserError, match=words) as refusal:
        in_package(text)
    assert str(refusal.value).startswith("toolkit.part") and "\n" not in str(refusal.value)


def small_repository(root: Path, modules: dict[str, str]) -> Path:
    """Files by their paths, beside a library whose start is the first of them, and the course's stand-in."""
    start = Path(*OWN.split("."), "__init__.py")
    given = {
        start: f"import {'.'.join(Path(next(iter(modules))).with_suffix('').parts)}\n",
        start.parent / "run.py": "",
        start.parent / "serve.py": "",
    }
    given[start.parent / "course.py"] = "ROOT = 1\n"
    given |= {Path("toolkit", name): "" for name in ("pytest_simgpu.py", "simgpu/__init__.py", "simgpu/__main__.py")}
    for name, text in {**given, **modules}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_what_is_reached_through_imports_is_found(tmp_path):
    """In functions too, with the packages that it lies in; what nothing imports is left out."""
    repository = small_repository(
        tmp_path,
        {
            "toolkit/a.py": "def f():\n    from ch02_parts import part\n",
            "toolkit/__init__.py": "",
            "solutions/ch02_parts/__init__.py": "from toolkit.deep import one\n",
            "solutions/ch02_parts/part.py": "",
            "solutions/ch02_parts/other.py": "",
            "toolkit/deep/__init__.py": "",
            "toolkit/deep/one.py": "from toolkit import course\n",
            "toolkit/course.py": "import IPython\n",
        },
    )
    found = gather(repository)
    assert {name_in_package(name) for name in found} == {
        "stepahead",
        "stepahead.run",
        "stepahead.serve",
        "stepahead.toolkit",
        "stepahead.toolkit.a",
        "stepahead.toolkit.course",
        "stepahead.toolkit.deep",
        "stepahead.toolkit.deep.one",
        "stepahead.toolkit.pytest_simgpu",
        "stepahead.toolkit.simgpu",
        "stepahead.toolkit.simgpu.__main__",
        "stepahead.ch02_parts",
        "stepahead.ch02_parts.part",
    }
    assert found["toolkit.course"].text == "ROOT = 1\n"


def test_a_module_that_is_not_there_is_an_error(tmp_path):
    repository = small_repository(
        tmp_path, {"toolkit/a.py": "\n\nfrom toolkit.b import x\n", "toolkit/__init__.py": ""}
    )
    with pytest.raises(UserError, match=r"toolkit\.a, line 3: the repository has no module toolkit\.b"):
        gather(repository)


def test_what_pyproject_asks_for():
    project = {"dependencies": ["torch>=2.11,<2.14", "numpy"], "optional-dependencies": {"x": ["prometheus-client[a]"]}}
    assert asked_for(project) == {"torch", "numpy", "prometheus_client"}


def test_the_stand_in_has_what_the_package_asks_the_course_for():
    """Every name that a module of the package takes from toolkit/course.py, or from the module itself."""
    stand_in = gather(ROOT)["toolkit.course"]
    has = {*stand_in.defined()} | {alias.name for node in stand_in.imports() for alias in node.names}
    asked = set()
    for module in gather(ROOT).values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom) and node.module == "toolkit.course":
                asked |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "course":
                asked.add(node.attr)
    assert {"ROOT", "current"} <= asked <= has


def test_the_library_asks_for_ranges_that_hold_the_pinned_versions():
    """pip in the course's own environment would change nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    pinned = {}
    for file in ("requirements.txt", "constraints.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if "==" in line:
                name, _, version = line.partition("==")
                pinned[name.lower().replace("_", "-")] = version
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        assert "==" not in str(requirement)
        assert requirement.specifier.contains(pinned[requirement.name.lower().replace("_", "-")]), requirement


def test_it_is_made_with_the_standard_library_alone():
    """pip builds it where no other package is installed but setuptools."""
    code = "import toolkit.commands.library.rewrite as it, toolkit.files; print(it.PACKAGE)"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{gathering.PACKAGE}\n", "")
