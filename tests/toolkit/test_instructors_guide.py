"""The instructor's guide says of each chapter what the exercises' metadata say."""

from toolkit.commands.exercises.metadata import load, of_chapter
from toolkit.course import ROOT, chapter_names

GUIDE = (ROOT / "docs" / "instructors_guide.md").read_text(encoding="utf-8")


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
