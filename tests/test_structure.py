"""docs/structure.md names places in the code by file and line; they are where it says."""

import re

import pytest

from toolkit.course import ROOT

TEXT = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\[`([\w.]+)`\]\(\.\./(solutions/[\w/]+\.py)#L(\d+)\)", TEXT)


def test_the_page_names_places_in_the_code():
    assert len(LINKS) >= 25
    assert "@ch" not in TEXT


@pytest.mark.parametrize(("name", "path", "line"), LINKS)
def test_a_name_is_defined_on_the_line_that_is_given(name: str, path: str, line: str):
    """`Class.method` or `function`: its definition is on that line."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    last = name.rpartition(".")[2]
    places = [number for number, each in enumerate(lines, 1) if re.match(rf"\s*(def|class) {last}\b", each)]
    assert int(line) in places, f"docs/structure.md says that {path}:{line} defines {name}; it is at {places}"
