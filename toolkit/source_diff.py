"""What one function's source has that another's has not: lessons show how a build differs from the one before."""

import ast
import difflib
import inspect
from collections.abc import Callable


def source_diff(before: Callable[..., object], after: Callable[..., object]) -> str:
    """The changed lines of two functions, "-" before and "+" after, with one unchanged line around them.

    Docstrings are left out: they say what a function is for, and the difference here is how.
    """
    changes = list(difflib.unified_diff(_lines(before), _lines(after), n=1, lineterm=""))[2:]
    return "\n".join("  ..." if line.startswith("@@") else line for line in changes)


def _lines(function: Callable[..., object]) -> list[str]:
    lines = inspect.getsource(function).splitlines()
    definition = ast.parse("\n".join(lines)).body[0]
    assert isinstance(definition, ast.FunctionDef)
    if ast.get_docstring(definition) is not None:
        docstring = definition.body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return lines
