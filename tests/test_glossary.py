"""docs/glossary.md: both parts list the same terms, and what it says of transformers is in that library."""

import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from toolkit.course import ROOT

MEANINGS, OTHERS = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").split("\n## The same in other engines\n")
FOLDER = Path(find_spec("transformers").origin).parent / "generation" / "continuous_batching"
NOTHING = "—"


def rows(text, columns):
    """The cells of every table row with so many columns, headings and rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if len(row) == columns and row[0] not in ("term", "engine")]


def names_and_files(cell):
    """The (names, file) pairs of a cell: names in `code` or "quotes", and the file behind them, or None."""
    found, names = [], []
    for quoted, code in re.findall(r'"([^"]+)"|`([^`]+)`', cell):
        if code.endswith(".py"):
            found.append((names, code))
            names = []
        else:
            names.append(quoted or code)
    return found + ([(names, None)] if names or not found else [])


def words(text):
    """Without line ends and comment signs, so that a quotation may go over two lines of a comment."""
    return re.sub(r"[\s#]+", " ", text)


def missing(cell):
    """What a cell of the transformers column names and transformers does not have."""
    wrong = []
    for names, file in names_and_files(cell):
        path = FOLDER / file
        if not path.is_file():
            wrong.append(file)
            continue
        text = words(path.read_text(encoding="utf-8"))
        wrong += [f"{name} in {file}" for name in names if not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    return wrong


def test_both_parts_list_the_same_terms():
    terms = [row[0] for row in rows(MEANINGS, columns=3)]
    assert len(terms) == len(set(terms)) > 50
    assert sorted(row[0] for row in rows(OTHERS, columns=4)) == sorted(terms)


@pytest.mark.parametrize("engine", ["vLLM", "SGLang", "transformers"])
def test_every_name_is_followed_by_its_file(engine):
    column = ["vLLM", "SGLang", "transformers"].index(engine) + 1
    for row in rows(OTHERS, columns=4):
        if row[column] != NOTHING:
            for names, file in names_and_files(row[column]):
                assert names and file, f"{row[0]}, {engine}: {names or file} lacks its {'file' if names else 'name'}"


def test_transformers_has_what_the_glossary_names():
    cells = [(row[0], row[3]) for row in rows(OTHERS, columns=4) if row[3] != NOTHING]
    wrong = [f"{term}: {what}" for term, cell in cells for what in missing(cell)]
    assert not wrong, f"transformers {version('transformers')} has no " + "; ".join(wrong)


def test_a_wrong_name_and_a_wrong_file_are_found():
    assert missing("`carry_over_ids` in `input_outputs.py`") == []
    assert missing("`carry_over_id` in `input_outputs.py`") == ["carry_over_id in input_outputs.py"]
    assert missing("`carry_over_ids` in `no_such_file.py`") == ["no_such_file.py"]
    assert missing('"in the batch that were made up" in `requests.py`') == [
        "in the batch that were made up in requests.py"
    ]


def test_the_version_looked_at_is_the_one_pinned():
    pinned = re.search(r"^transformers==(.+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    looked_at = [row[1].split(",")[0] for row in rows(OTHERS, columns=3) if row[0] == "transformers"]
    assert looked_at == [pinned[1]]


def test_our_own_names_are_in_the_code():
    """Every `name` in terms and meanings, and every term in CamelCase, stands in solutions/ or toolkit/."""
    sources = [*(ROOT / "solutions").rglob("*.py"), *(ROOT / "toolkit").rglob("*.py")]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    names = {name for row in rows(MEANINGS, columns=3) for name in re.findall(r"`(\w+)[^`]*`", " ".join(row[:2]))}
    names |= {term for row in rows(MEANINGS, columns=3) for term in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", row[0])}
    assert len(names) >= 8
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", code)] == []
