"""Puts one exercise back as it was shipped: `make reset EX=2.1`, or `python -m toolkit.commands.learner.reset 2.1`.

Only the exercise's functions are replaced; a bug may have been mended anywhere, so there it is the whole file. What the
file held before is in my/.backup.
"""

import argparse
from pathlib import Path

import parso

from toolkit.choice import MINE, ROOT
from toolkit.commands.exercises.metadata import Exercise, find, load
from toolkit.commands.exercises.state import load_state, save_state
from toolkit.commands.learner.folder import Backup, read, read_base, read_release, write
from toolkit.commands.learner.functions import functions_of
from toolkit.commands.learner.start import ensure
from toolkit.errors import UserError, exit_cleanly


def reset(what: str, root: Path = ROOT) -> str:
    """Put an exercise back, and return what was done, as a text.

    Raises:
        UserError: there is no such exercise, my/ does not have it yet, or its place in the file cannot be found.
    """
    exercise = find(load(root), what)
    ensure(root)
    place = read_release(root)[1].get(exercise.id)
    shipped = read_base(root).get(place.file) if place else None
    if place is None or shipped is None:
        raise UserError(f"{MINE}/ does not have exercise {exercise.id} yet: make update brings it there")
    name, path = f"{MINE}/{place.file}", root / MINE / place.file
    text = read(path) if path.is_file() else None
    whole = text is None or exercise.is_bug
    after = shipped if whole or text is None else put_back(text, shipped, place.functions, name)
    if after == text:
        return f"{exercise.id} {exercise.title} is as it was shipped; {name} stays as it is"
    backup = Backup(root)
    backup.keep(place.file)
    write(path, after)
    forget_result(exercise, root)
    what = "the whole file" if whole else ", ".join(place.functions)
    done = f"{exercise.id} {exercise.title} is as it was shipped: {name}, {what}"
    return done if text is None else f"{done}\nWhat the file held before is in {backup}"


def put_back(text: str, shipped: str, functions: tuple[str, ...], name: str) -> str:
    """The learner's file with these functions as shipped; one that is missing comes to the end of its class or file."""
    for function in functions:
        lines = parso.split_lines(text if text.endswith("\n") else f"{text}\n", keepends=True)
        there, as_shipped = functions_of(text), functions_of(shipped)[function]
        if function in there:
            lines[there[function].first - 1 : there[function].last] = [as_shipped.shifted(there[function].indent).text]
        elif "." not in function:
            lines += ["\n\n", as_shipped.text]
        else:
            class_ = function.rpartition(".")[0]
            methods = [method for known, method in there.items() if known.rpartition(".")[0] == class_]
            if not methods:
                raise UserError(
                    f"{name} has no class {class_} with methods, so there is no place for {function}; give the file "
                    "another name, and call make start, which brings it back as shipped"
                )
            lines.insert(max(method.last for method in methods), f"\n{as_shipped.text}")
        text = "".join(lines)
    return text


def forget_result(exercise: Exercise, root: Path) -> None:
    """Hints that were taken stay taken."""
    state = load_state(root)
    if state.checks.pop(exercise.id, None):
        save_state(state, root)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.learner.reset", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("exercise", nargs="?", help="such as 2.1")
    exercise = parser.parse_args().exercise
    if exercise is None:
        raise UserError(f"which exercise? For instance: make reset EX=2.1. There are {', '.join(load()) or 'none yet'}")
    print(reset(exercise))
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
