"""Plain words: what a reader of the course sees avoids some that a native technical writer would not choose."""

import re
from pathlib import Path

import pytest

from toolkit.course import ROOT

# The word -> what to write instead.
REFUSED = {
    r"nobody": "no request, no caller, nothing",
    r"everybody": "all requests, each caller",
    r"anew": "again",
    r"in vain": "for nothing, without effect",
    r"mind (how|that)": "note",
    r"this is no (?!longer)": "it isn't",
    r"for ever": "forever",
    r"whoever": "a caller who, code that, those who",
}
WORDS = re.compile(rf"\b({'|'.join(REFUSED)})\b", re.I)
READ = (
    "README.md",
    "AGENTS.md",
    "docs/*.md",
    "chapters/*/lesson.py",
    "solutions/**/*.py",
    "toolkit/**/*.py",
    "toolkit/**/*.md",
    "toolkit/commands/exercises/exercises.toml",
    "figures/**/*.py",
    "tests/**/*.py",
    "tests/*/mutants.toml",
)


def found_in(text: str) -> list[str]:
    """Each refused word with its line."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"line {number}: {match[0]!r}" for number, line in lines for match in WORDS.finditer(line)]


@pytest.mark.parametrize("pattern", READ)
def test_no_refused_word(pattern: str):
    """In the text, the docstrings, the comments and the messages."""
    paths = sorted({*ROOT.glob(pattern)} - {Path(__file__)})  # which names the words
    assert paths, f"{pattern} finds no file"
    problems = [f"{path.relative_to(ROOT)}, {each}" for path in paths for each in found_in(read(path))]
    assert not problems, "\n".join(problems)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_refused_words_are_found():
    """Whole words, in any case; not parts of others."""
    assert found_in("Nobody waits\nfor ever, for everyone") == ["line 1: 'Nobody'", "line 2: 'for ever'"]
    assert found_in("a busybody, renewed, this is no longer so") == []
