"""README.md and docs/ name places in the code by file and line; they are where it says."""

import pytest

from toolkit.commands.code_links import LINK, line_of_definition, refreshed
from toolkit.course import ROOT
from toolkit.errors import UserError

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STRUCTURE = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")
CODE = "\nclass A:\n\n    def b(self):\n        self.run(1, 2)\n\n    async def c(self): ...\n"


def test_the_pages_name_places_in_the_code():
    assert len(LINK.findall(STRUCTURE)) >= 25
    assert "@ch" not in STRUCTURE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_line_numbers_are_up_to_date(page):
    """`python -m toolkit.commands.code_links`, which `make exercises` runs, would change nothing."""
    text = page.read_text(encoding="utf-8")
    assert refreshed(text) == text


def test_a_place_that_moved_is_found(tmp_path):
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions/a.py").write_text(CODE, encoding="utf-8")
    link = "[`A.b`](../solutions/a.py#L{})"
    assert refreshed(link.format(1), tmp_path) == link.format(4)


def test_a_place_that_is_gone_is_an_error(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("class A: ...\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"does not define A\.b"):
        line_of_definition(file, "A.b")
