"""How far the learner is with each exercise, read from the text of their file alone."""

import ast
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.choice import MINE
from toolkit.commands.exercises.generate import make_stub
from toolkit.commands.exercises.metadata import Exercise, load
from toolkit.commands.learner.folder import BASE, read
from toolkit.commands.learner.texts import YOURS, marked_line
from toolkit.course import ROOT
from toolkit.errors import UserError
from toolkit.fill import find_unsolved, functions_in
from toolkit.finder import missing

State = Literal["not started", "begun", "partly", "written"]


@dataclass(frozen=True)
class Standing:
    """Where one exercise stands.

    Attributes:
        state: "not started": as shipped. "begun": edited, but every placeholder still stands. "partly": some of its
            functions are written. "written": all are, rightly or wrongly. A bug has no placeholder and may be mended
            anywhere in its file: it is "written" as soon as that file's code differs from the shipped one.
        function: the function to work on: the first that is not written, or the first of all.
        line: where that function starts in the learner's file; `raise_line` is the line of its placeholder, if any.
        waiting: the functions in which the placeholder still stands.
        digest: changes when a function of the exercise is edited; for a bug, when its file is.
    """

    exercise: Exercise
    state: State
    function: str
    line: int
    raise_line: int | None
    waiting: tuple[str, ...]
    digest: str

    @property
    def place(self) -> str:
        if not self.line:
            return self.exercise.path  # where in it is for the learner to find
        return f"{self.exercise.path}, {self.function} (line {self.line})"


def look_at(exercise: Exercise, root: Path = ROOT) -> Standing:
    """The standing of one exercise.

    Raises:
        UserError: the learner's file is missing, is not valid Python, or has lost a function of the exercise.
    """
    text = read_file(root / exercise.path, exercise.path)
    alone = not any(other != exercise and other.path == exercise.path for other in load(root).values())
    if exercise.is_bug and alone:
        return _look_at_bug(exercise, text, root)
    functions = dict(functions_in(ast.parse(text)))
    for name in exercise.functions:
        if name not in functions:
            raise UserError(f"{exercise.path}: exercise {exercise.id} needs the function {name}, which is not there")
    unsolved = {item.qualname: item for item in find_unsolved(text, Path(exercise.path))}
    waiting = tuple(name for name in exercise.functions if name in unsolved)
    function = waiting[0] if waiting else exercise.functions[0]
    state: State
    as_shipped = _dumps(_stub(exercise, root), exercise.functions)
    if exercise.is_bug:
        state = "not started" if _dumps(text, exercise.functions) == as_shipped else "written"
    elif not waiting:
        state = "written"
    elif len(waiting) < len(exercise.functions):
        state = "partly"
    else:
        state = "not started" if _dumps(text, exercise.functions) == as_shipped else "begun"
    return Standing(
        exercise,
        state,
        function,
        functions[function].lineno,
        unsolved[function].raise_line if waiting else None,
        waiting,
        _digest("".join(_dumps(text, exercise.functions))),
    )


def _look_at_bug(exercise: Exercise, text: str, root: Path) -> Standing:
    code = ast.dump(ast.parse(text))
    as_shipped = ast.dump(ast.parse(_stub(exercise, root)))
    state: State = "not started" if code == as_shipped else "written"
    return Standing(exercise, state, exercise.functions[0], 0, None, (), _digest(code))


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def read_file(path: Path, name: str) -> str:
    """A learner's file, if it is Python; otherwise one line that says where it is broken."""
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(text)
    except FileNotFoundError:
        raise missing(name) from None
    except SyntaxError as error:
        if marked := marked_line(text):
            raise UserError(
                f"{name}, line {marked}: make update has left two versions there, from {YOURS.strip()!r} on; choose "
                "between them, and delete the marks"
            ) from None
        line = (error.text or "").strip()
        raise UserError(f"{name}, line {error.lineno}: Python cannot read this: {error.msg}: {line}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not a UTF-8 text: {error}") from None
    return text


def _stub(exercise: Exercise, root: Path) -> str:
    """The exercise's file as my/ got it; as this release has it, where it is newer than my/."""
    shipped = root / MINE / BASE / exercise.chapter / exercise.file
    if shipped.is_file():
        return read(shipped)
    source = root / "solutions" / exercise.chapter / exercise.file
    return make_stub(source.read_text(encoding="utf-8"), load(root), str(source))


def _dumps(text: str, names: tuple[str, ...]) -> list[str]:
    functions = dict(functions_in(ast.parse(text)))
    return [ast.dump(functions[name]) for name in names]
