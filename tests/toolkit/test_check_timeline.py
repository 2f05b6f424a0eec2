"""`make check` draws the run of a check that is about a race or an overlap, and says where."""

import pytest

from tests.simulated import needs_simulator
from toolkit.commands.exercises.check import check

pytestmark = needs_simulator
COUNT = '        raise NotImplementedError("ch91 exercise 1: Count")'
TOTAL = '    raise NotImplementedError("ch91 exercise 2: Add up")\n'
HEAD = '''"""Toy tests."""
import pytest
import torch
from ch91_second.counter import Counter, total
from toolkit import simgpu


def run(on_race):
    """A copy that the next operation does not wait for."""
    simgpu.reset("eager", on_race=on_race)
    h2d, compute = simgpu.Stream(name="h2d"), simgpu.Stream(name="compute")
    host, there = torch.ones(4, pin_memory=True), torch.zeros(4, device="sim")
    simgpu.synchronize()
    for tensor in (host, there):
        simgpu.name_tensors({"<script>alert(1)</script>": tensor}, "the buffers of batch 0")
    with simgpu.stream(h2d):
        there.copy_(host, non_blocking=True)
    with simgpu.stream(compute):
        there.add_(1)
'''
RACE = '''
{marks}def test_order_{on_race}():
    """Everything is ordered. More text."""
    run({on_race!r})
    races = [str(race) for race in simgpu.races()]
    assert not races, f"{{len(races)}} races, the first one:\\n{{races[0]}}"
'''
OVERLAP = '''
@pytest.mark.exercise("91.2")
def test_something_else():
    """A check about another thing, although there is a race, too."""
    run("collect")
    assert False, "something else is wrong"


@pytest.mark.overlap
@pytest.mark.exercise("91.2")
def test_overlap():
    """The host works meanwhile."""
    run("collect")
    assert False, "nothing overlaps"
'''
EXERCISE = '@pytest.mark.exercise("91.1")\n'
SEE = "      see it: figures/local/check/{}/timeline.html in a browser, or timeline.png beside it\n"


@pytest.fixture
def checked(toy, edit, capsys):
    """Check chapter 91, all of it written, with these tests; returns what was printed."""

    def run(tests):
        edit(COUNT, "        self.value += 1")
        edit(TOTAL, "")
        (toy / "tests/ch91_second/test_counter.py").write_text(HEAD + tests)
        assert check("91", toy) == 1
        return capsys.readouterr().out

    return run


def test_races_and_missing_overlaps_are_drawn(checked, toy):
    """A picture and a page for the first of an exercise's checks that is about one of the two, named in one line."""
    races = [RACE.format(marks=EXERCISE, on_race=on_race) for on_race in ("raise", "collect")]
    out = checked(
        "".join([*races, OVERLAP, RACE.format(marks="", on_race="collect").replace("test_order", "test_all")])
    )
    assert out.count("RACE on <script>alert(1)</script>") == 3
    first, second, whole = (out.partition(f"\n{name}")[2] for name in ("91.1 ", "91.2 ", "The chapter as a whole"))
    assert first.count(SEE.format("91.1")) == 1, "the first of two"
    assert (
        SEE.format("91.2") in second.partition("nothing overlaps")[2] and "see it" not in second.partition("✗ The")[0]
    )
    assert SEE.format("whole_chapter") in whole
    folder = toy / "figures/local/check"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    places = ("91.1", "91.2", "whole_chapter")
    assert files == {f"{place}/timeline.{kind}" for place in places for kind in ("png", "html")}
    assert all((folder / place / "timeline.png").read_bytes().startswith(b"\x89PNG") for place in places)
    pages = [(folder / place / "timeline.html").read_text(encoding="utf-8") for place in places]
    for page in (pages[0], pages[2]):
        assert "<h1>Nothing orders H2D copy on h2d before add_ on compute" in page
        assert "Everything is ordered\n" in page and "RACE on &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<h1>An overlap is missing" in pages[1] and "nothing overlaps" in pages[1]
    assert not any("<script>alert(1)" in page for page in pages), "the name of a buffer is text there"


def test_what_cannot_be_drawn_costs_no_result(checked, toy):
    """A file where the folder should be: the check's own words come all the same."""
    (toy / "figures/local").mkdir(parents=True)
    (toy / "figures/local/check").write_text("in the way")
    out = checked(RACE.format(marks=EXERCISE, on_race="collect"))
    assert "RACE on" in out and "its timeline could not be drawn: " in out
