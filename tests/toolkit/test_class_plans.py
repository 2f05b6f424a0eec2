"""docs/class_plans.md: times add up, exercises fit into their rows, and sections and commands are there."""

import re

import pytest

from toolkit.commands.exercises.metadata import load
from toolkit.course import ROOT, chapter_names

TEXT = (ROOT / "docs" / "class_plans.md").read_text(encoding="utf-8")
EXERCISES = load(ROOT)
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
COLUMNS = ("at", "min", "shown and discussed", "typed", "exercises", "when late")


def plans(text: str = TEXT) -> dict[str, tuple[int, list[dict[str, str]]]]:
    """Each plan by its name: the minutes that its heading states, and its rows by column."""
    parts = re.split(r"^##+ (.+)$", text, flags=re.M)[1:]
    found = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        stated = re.fullmatch(r"(.+): (\d+) minutes", heading)
        if stated:
            lines = [line for line in body.splitlines() if line.startswith("|")]
            cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            assert tuple(cells[0]) == COLUMNS, f"{heading}: the columns are {cells[0]}"
            found[stated[1]] = int(stated[2]), [dict(zip(COLUMNS, row, strict=True)) for row in cells[2:]]
    return found


def ids(text: str) -> list[str]:
    return re.findall(r"\b\d+\.\d+\b", text)


def at_home() -> list[str]:
    """The exercises that the sessions leave for home, the museum apart."""
    lines = re.findall(r"^At home: ([^;\n]*)", TEXT, re.M)
    return [id_ for line in lines for id_ in ids(line)]


PLANS = plans()
SESSIONS = [name for name in PLANS if name.startswith("Session ")]


def test_the_plans_are_there():
    """Half a day, a day, seven sessions of two hours, and the museum."""
    assert [PLANS[name][0] for name in SESSIONS] == [120] * 7
    assert set(PLANS) - set(SESSIONS) == {"Half a day", "A day", "The museum alone"}


@pytest.mark.parametrize("name", PLANS)
def test_times_add_up(name):
    """Each row begins when the one before ends, and the last one ends at the stated length."""
    length, rows = PLANS[name]
    now = 0
    for row in rows:
        assert row["at"] == f"{now // 60}:{now % 60:02}", f"{name}: the row at {row['at']} begins {now} minutes in"
        now += int(row["min"])
    assert now == length, f"{name}: the rows take {now} minutes, its heading says {length}"


@pytest.mark.parametrize("name", PLANS)
def test_exercises_fit_into_their_rows(name):
    """By the minutes of the metadata; and no row without any is named as one."""
    for row in PLANS[name][1]:
        minutes = sum(EXERCISES[id_].minutes for id_ in ids(row["exercises"]))
        assert minutes <= int(row["min"]), f"{name}, {row['at']}: the exercises take {minutes} minutes"


def test_the_sessions_have_each_exercise_once():
    """In class or at home; of chapter 8's museum only those outside of it."""
    in_class = [id_ for name in SESSIONS for row in PLANS[name][1] for id_ in ids(row["exercises"])]
    museum = {id_ for id_, exercise in EXERCISES.items() if exercise.file.startswith("museum/")}
    assert sorted(in_class + at_home()) == sorted(EXERCISES.keys() - museum)


def test_sections_are_those_of_the_lessons():
    """Each section by its chapter, number and title."""
    named = re.findall(r'(\d+) §(\d+) "([^"]+)"', TEXT)
    assert len(named) > 50
    lessons = {int(name[2:4]): (ROOT / "chapters" / name / "lesson.py").read_text("utf-8") for name in chapter_names()}
    wrong = [f'{c} §{n} "{title}"' for c, n, title in named if f"\n# ## {n}. {title}\n" not in lessons[int(c)]]
    assert not wrong, f"no lesson has {', '.join(wrong)}"


@pytest.mark.parametrize("page", ["class_plans", "helpers_sheet"])
def test_commands_are_there(page):
    """Every `make ...` is a target, and every EX= names an exercise."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([a-z-]+)", text))
    assert targets and targets <= TARGETS, f"there is no make {', '.join(sorted(targets - TARGETS))}"
    assert set(re.findall(r"EX=([\d.]+\d)", text)) <= EXERCISES.keys()


def test_a_plan_is_read_by_its_columns():
    """And its length from its heading."""
    row = ("0:00", "5", "a", "b", "3.2", "c")
    lines = "\n".join(f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * len(COLUMNS), row))
    assert plans(f"## A plan: 5 minutes\n\n{lines}\n") == {"A plan": (5, [dict(zip(COLUMNS, row, strict=True))])}
