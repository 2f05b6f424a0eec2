"""`make check` draws the run of a check that is about a race or an overlap, and says where."""

import pytest

from tests.simulated import needs_simulator
from toolkit.commands.exercises.check import check

pytestmark = needs_simulator
ANSWER = '        raise NotImplementedError("ch91 exercise 1: Count")'
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
@pytest.mark.exercise("91.1")
def test_order():
    """Everything is ordered. More text."""
    run({on_race!r})
    races = [str(race) for race in simgpu.races()]
    assert not races, f"{{len(races)}} races, the first one:\\n{{races[0]}}"
'''
OVERLAP = '''
@pytest.mark.exercise("91.1")
{marker}def test_overlap():
    """The host works meanwhile."""
    run("collect")
    assert False, "nothing overlaps"
'''
SEE = "see it: figures/local/check/91.1/timeline.html in a browser, or timeline.png beside it\n"


@pytest.fixture
def written(toy, edit, capsys):
    """Run the check with these tests; returns what it printed and what it has written."""

    def run(tests):
        edit(ANSWER, "        self.value += 1")
        (toy / "tests/ch91_second/test_counter.py").write_text(HEAD + tests)
        assert check("91.1", toy) == 1
        folder = toy / "figures/local/check"
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return capsys.readouterr().out, files

    return run


@pytest.mark.parametrize("on_race", ["collect", "raise"])
def test_a_race_is_drawn(written, on_race):
    """In a picture and a page that carry its report; the buffer's name is text there. The output names both."""
    out, files = written(RACE.format(on_race=on_race))
    assert "RACE on <script>alert(1)</script>" in out
    assert out.count(SEE) == 1
    assert set(files) == {"91.1/timeline.png", "91.1/timeline.html"}
    assert files["91.1/timeline.png"].read_bytes().startswith(b"\x89PNG")
    page = files["91.1/timeline.html"].read_text(encoding="utf-8")
    assert "<h1>Nothing orders H2D copy on h2d before add_ on compute" in page
    assert "Everything is ordered\n" in page and "RACE on &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert(1)" not in page


def test_one_picture_for_an_exercise(written):
    """Of several checks that find a race the first one's run is drawn."""
    again = RACE.replace("test_order", "test_order_again").format(on_race="collect")
    out, files = written(RACE.format(on_race="collect") + again)
    assert out.count("RACE on") == 2 and out.count(SEE) == 1 and len(files) == 2


def test_a_missing_overlap_is_drawn(written):
    out, files = written(OVERLAP.format(marker="@pytest.mark.overlap\n"))
    assert "nothing overlaps" in out and SEE in out
    assert "<h1>An overlap is missing" in files["91.1/timeline.html"].read_text(encoding="utf-8")


def test_other_failures_are_not(written):
    """A check that fails for another reason, although there was a race, which this one is not about."""
    out, files = written(OVERLAP.format(marker=""))
    assert "nothing overlaps" in out and "see it" not in out and not files


def test_what_cannot_be_drawn_costs_no_result(written, toy):
    """A file where the folder should be: the check's own words come all the same."""
    (toy / "figures/local").mkdir(parents=True)
    (toy / "figures/local/check").write_text("in the way")
    out, _ = written(RACE.format(on_race="collect"))
    assert "RACE on" in out and "its timeline could not be drawn: " in out
