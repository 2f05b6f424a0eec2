"""The walk through a step: counted right, and no longer than was promised."""

import ast
from collections.abc import Callable
from pathlib import Path

from tests.measure_walk import (
    ancestors,
    changes,
    code_lines,
    engine_classes,
    is_engine_file,
    overridden,
    steady_step,
    walk,
)

MOST_CHANGES = 24
MOST_ABOVE = 2


def made_up(name: str, text: str, **known: object) -> Callable[[], object]:
    """The function `run` of a file that does not exist."""
    names = dict(known)
    exec(compile(text, f"/made/up/ch02/{name}.py", "exec"), names)
    run = names["run"]
    assert callable(run)
    return run


def test_calls_and_returns_that_enter_another_engine_file_count():
    """Engine calls executor, which calls itself and a helper that is no engine file, and returns: two changes."""
    helper = made_up("buffers", "def run(): pass")
    executor = made_up("executor", "def run(): inner(); helper()\ndef inner(): pass", helper=helper)
    step = made_up("engine", "def run(): executor()", executor=executor)
    visits = walk(step, is_engine_file)
    assert {path.stem for path in visits} == {"engine", "executor"}
    assert changes(visits) == 2


def test_a_call_through_another_kind_of_file_counts_where_it_arrives():
    """Engine calls a helper, and the helper the book: that one is entered, and left again."""
    book = made_up("request_book", "def run(): pass")
    helper = made_up("observers", "def run(): book()", book=book)
    assert changes(walk(made_up("engine", "def run(): helper()", helper=helper), is_engine_file)) == 2


def test_ancestors_and_overridden_methods():
    text = "class A:\n def f(self): 0\n def g(self): 0\nclass B(A): pass\nclass C(B):\n def f(self): 0"
    text += "\nclass D:\n def g(self): 0"
    classes = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    assert list(ancestors("C", classes)) == ["B", "A"]
    assert overridden(classes) == {"f": 2}


def test_code_lines_are_those_without_words_about_them(tmp_path: Path):
    path = tmp_path / "some.py"
    path.write_text('"""Title.\n\nMore.\n"""\n\n# why\ndef f():\n    """What."""\n    return 1  # one\n')
    assert code_lines(path) == 2


def test_the_full_engine_is_read_in_few_files_and_one_direction():
    """What the design promises: a steady step changes between engine files at most 24 times."""
    visits = walk(steady_step(), is_engine_file)
    assert {"engine", "full_engine", "request_book", "event_executor"} <= {path.stem for path in visits}
    assert changes(visits) <= MOST_CHANGES, f"{changes(visits)} changes: {[path.stem for path in visits]}"


def test_no_engine_class_is_deep():
    classes = engine_classes()
    deep = {
        name: list(ancestors(name, classes)) for name in classes if len(list(ancestors(name, classes))) > MOST_ABOVE
    }
    assert "FullEngine" in classes
    assert not deep, f"more than {MOST_ABOVE} classes above: {deep}"
