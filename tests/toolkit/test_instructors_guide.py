"""The instructor's guide says of each chapter what metadata and lesson say, and names what is there."""

import re

import pytest

from toolkit.commands.exercises.metadata import load, of_chapter
from toolkit.course import ROOT, chapter_names

DOCS = ROOT / "docs"
GUIDE = (DOCS / "instructors_guide.md").read_text(encoding="utf-8")


def test_exercises_and_minutes_are_those_of_the_metadata():
    """Number of exercises and their minutes, chapter by chapter, the bug museum apart."""
    exercises = load(ROOT)
    for chapter in chapter_names():
        mine = of_chapter(exercises, chapter)
        for bugs in (False, True):
            part = [exercise for exercise in mine if exercise.is_bug == bugs]
            cells = f" | {len(part)} | {sum(exercise.minutes for exercise in part)} |"
            number = str(int(chapter[2:4]))
            lines = [line for line in GUIDE.splitlines() if line.startswith(f"| {number} ") and cells in line]
            assert lines or not part, f"{chapter}{', bugs' * bugs}: the metadata say {cells.strip(' |')}"


def test_a_lessons_length_is_what_the_lesson_says():
    """In its words, which are near its beginning: "About an hour and a half: 20 minutes to read, ..."."""
    rows = re.findall(r"^\| (\d+) [^|]*\| \d+ \| \d+ \| ([^|(]+) \|", GUIDE, re.M)
    assert [int(number) for number, _ in rows] == list(range(len(chapter_names())))
    for (_, words), chapter in zip(rows, chapter_names(), strict=True):
        lesson = (ROOT / "chapters" / chapter / "lesson.py").read_text(encoding="utf-8")
        head = " ".join(lesson.split("# %%\n")[0].replace("\n#", "").split())
        assert f"{words}: ".lower() in head.lower(), f"{chapter} does not say {words!r}"


def test_commands_of_the_guide_are_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", GUIDE, re.M))
    assert {"wheelhouse", "report", "collect", "release"} <= named <= targets


@pytest.mark.parametrize(
    "page", ["instructors_guide", "class_plans", "helpers_sheet", "learners_questions", "wrong_answers"]
)
def test_links_lead_to_pages(page):
    """And the guide links all of the pages for those who teach."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    missing = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (DOCS / link).exists()]
    assert not missing
    assert page == "instructors_guide" or f"]({page}.md)" in GUIDE


def test_sections_that_answers_point_to_are_there():
    """ "3 §6" is a section of the lesson of chapter 3; and there are 15 to 20 questions."""
    text = (DOCS / "learners_questions.md").read_text(encoding="utf-8")
    lessons = [(ROOT / "chapters" / name / "lesson.py").read_text(encoding="utf-8") for name in chapter_names()]
    named = re.findall(r"(\d+) §(\d+)", text)
    assert len(named) > 20
    assert not [f"{c} §{n}" for c, n in named if f"\n# ## {n}. " not in lessons[int(c)]]
    assert 15 <= len(re.findall(r"^\*\*", text, re.M)) <= 20


def test_the_helpers_sheet_is_one_page():
    """With its ten stumbles: at most 45 lines of at most 180 columns, which is a printed page on its side."""
    text = (DOCS / "helpers_sheet.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 45 and max(map(len, text.splitlines())) <= 180
    assert len(re.findall(r"^\| (?!what you see|-)", text, re.M)) == 10
