"""Writes docs/wrong_answers.md, for helpers in class: the usual wrong answers of each exercise, and what to ask.

    python -m toolkit.commands.exercises.wrong_answers           # writes it
    python -m toolkit.commands.exercises.wrong_answers --check   # writes nothing; exit code 1 if it is out of date

What it says of an exercise comes from exercises.toml. A wrong answer is a mutant: the page gives its name, what is
tested (in the words that `make check` prints), and what the check says. helpers_questions.toml has the questions, and
names the mutants that are worth showing.
"""

import argparse
import ast
import re
import textwrap
import tomllib
from pathlib import Path

from toolkit.choice import MINE
from toolkit.commands.exercises.metadata import Exercise, load
from toolkit.commands.exercises.mutants import Mutant, load_mutants
from toolkit.commands.exercises.reporter import first_sentence
from toolkit.course import ROOT, chapter_names
from toolkit.errors import UserError, exit_cleanly
from toolkit.files import write_whole

PAGE = Path("docs") / "wrong_answers.md"
QUESTIONS = Path("toolkit/commands/exercises/helpers_questions.toml")
HEAD = """# Wrong answers, and what to ask

**This page gives answers away. It is for those who help in class, and no learner should read it before the exercise is
solved.** Written by `python -m toolkit.commands.exercises.wrong_answers`, from the wrong answers that the course tests
itself with.

For each exercise: the first hint (`make hint` has two more), what a helper asks, and the likeliest wrong answers. "✗"
is the sentence that `make check` prints in front of what failed; what it says then is shortened, with "…" for what
differs. Ask one question, and wait. If the learner's code is none of those below, read the check's message together,
aloud.

A row of the tables is a row of `tests/chNN_name/mutants.toml`, where the code of each wrong answer is. How to help, and
the ten commonest stumbles that have nothing to do with an exercise: [helpers_sheet.md](helpers_sheet.md).
"""


def page(root: Path = ROOT) -> str:
    """The whole page.

    Raises:
        UserError: helpers_questions.toml names an exercise or a mutant that is not there, or leaves an exercise out.
    """
    exercises, questions = load(root), read_questions(root)
    problems = [f"it has nothing about exercise {id_}" for id_ in exercises if id_ not in questions]
    problems += [f"there is no exercise {id_}" for id_ in questions if id_ not in exercises]
    if problems:
        raise UserError(f"{root / QUESTIONS}: {'; '.join(problems)}")
    mutants = {(mutant.exercise, mutant.name): mutant for mutant in load_mutants(root)}
    parts = [HEAD]
    for chapter in chapter_names(root):
        mine = [exercise for exercise in exercises.values() if exercise.chapter == chapter]
        if mine:
            parts.append(f"## Chapter {int(chapter[2:4])}: {chapter[5:].replace('_', ' ')}\n")
        for exercise in mine:
            asked, names = questions[exercise.id]
            chosen = [_mutant(mutants, exercise.id, name, root) for name in names]
            parts.append(section(exercise, asked, chosen, root))
    return "\n".join(parts)


def read_questions(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    """For each exercise what to ask, and the names of the mutants to show."""
    path = root / QUESTIONS
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return {id_: (entry["ask"], entry["mistakes"]) for id_, entry in table.items()}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    except (KeyError, TypeError):
        raise UserError(f"{path}: each entry has `ask` and `mistakes`, two lists") from None


def _mutant(mutants: dict[tuple[str, str], Mutant], id_: str, name: str, root: Path) -> Mutant:
    if (id_, name) not in mutants:
        raise UserError(f"{root / QUESTIONS}: exercise {id_} has no mutant {name}")
    return mutants[id_, name]


def section(exercise: Exercise, asked: list[str], mutants: list[Mutant], root: Path) -> str:
    """What the page says of one exercise."""
    lines = [f"### {exercise.id} {exercise.title}", ""]
    lines += [f"`{exercise.path}`, {exercise.minutes} minutes", ""]
    if exercise.is_bug:
        lines += wrapped(f"Symptom: {exercise.symptom} As shipped the check says: {quoted(exercise.says)}.")
    lines += wrapped(f"Hint 1: {exercise.hints[0]}")
    lines += [line for question in asked for line in wrapped(f"**Ask:** {question}")]
    lines += ["| wrong answer | ✗ | the check says |", "|---|---|---|"]
    lines += [f"| {spoken(each.name)} | {cell(tested(each, root))} | {cell(quoted(each.says))} |" for each in mutants]
    return "\n".join([*lines, ""])


def wrapped(text: str) -> list[str]:
    """A paragraph of at most 120 columns, and an empty line."""
    return [*textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False), ""]


def cell(text: str) -> str:
    """A text that can be a cell of a table: `|` would begin the next one, and `<` a tag."""
    return re.sub(r"([|<])", r"\\\1", text)


def spoken(name: str) -> str:
    """A mutant's name as words."""
    return name.replace("_", " ")


def tested(mutant: Mutant, root: Path) -> str:
    """What the mutant's test checks, in the words that `make check` prints behind its ✗."""
    file, _, function = mutant.test.partition("::")
    path = root / "tests" / mutant.chapter / file
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return first_sentence(ast.get_docstring(node) or spoken(function.removeprefix("test_")))
    raise UserError(f"mutant {mutant.name}: there is no test {mutant.test} in tests/{mutant.chapter}/")


def quoted(says: str) -> str:
    """The words of a regular expression in quotes; its alternatives one behind the other."""
    return " or ".join(f'"{readable(part)}"' for part in alternatives(says))


def alternatives(pattern: str) -> list[str]:
    """The parts of a regular expression between the `|` that lie in no parentheses."""
    parts, depth = [""], 0
    for piece in re.findall(r"\\.|.", pattern, re.S):
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def readable(pattern: str) -> str:
    """A regular expression as words: what may be anything becomes "…", and a number "N"."""
    text = re.sub(r"\(\.\|(?:\\n|\n)\)\*|\[\^R\]\*|\(?\.\*\)?", " … ", pattern)
    text = re.sub(r"(?<!\\)\((\w+)\|[^()]*\)", r"\1", text)  # of the alternatives in parentheses, the first
    text = re.sub(r"\[[^\]]*\]|\\d\+?(?:\\d\+?)*", "N", text) if "\\[" not in text else text.replace(r"\d+", "N")
    text = re.sub(r"\\(.)", r"\1", text.strip("^$"))
    text = re.sub(r"(?<=\w)\.s\b", "'s", text)  # a quotation mark that may be of either kind
    return " ".join(text.replace("solutions/ch", f"{MINE}/ch").split())  # a learner's check names the learner's file


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit.commands.exercises.wrong_answers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is out of date")
    only_check = parser.parse_args().check
    target, text = ROOT / PAGE, page()
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return 0
    if only_check:
        raise UserError(f"{PAGE} is out of date; call python -m toolkit.commands.exercises.wrong_answers")
    write_whole(target, text)
    print(f"wrote {PAGE}")
    return 0


if __name__ == "__main__":
    exit_cleanly(main)
