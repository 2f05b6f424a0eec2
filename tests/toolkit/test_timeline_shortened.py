"""The page of a long run: which stretch of it is kept, and that the rest is counted."""

import pytest

from toolkit.timeline import Edge, FoundRace, Recording, Span
from toolkit.timeline.shortened import shortened


def span(i, lane="compute"):
    return Span(f"op{i}", lane, float(i), i + 0.5)


def race(i, j):
    return FoundRace(span(i), span(j, "h2d"), "x", "record an event", "RACE on x")


def make(n, races=(), edges=()):
    return Recording(tuple(map(span, range(n))), "simulated", races=races, edges=edges)


def names(recording):
    return [int(each.name.removeprefix("op")) for each in recording.spans]


@pytest.mark.parametrize("n", [0, 9, 10])
def test_a_run_that_fits_is_left_as_it_is(n):
    recording = make(n)
    assert shortened(recording, 10) == (recording, "")


def test_without_a_race_the_last_operations_are_kept():
    short, said = shortened(make(1234), 10)
    assert names(short) == list(range(1224, 1234))
    assert said == (
        "The run is too long for a page: of 1,234 operations 10 are drawn, the last ones. "
        "1,224 operations are left out."
    )


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (40, 45), (45, 40), (49, 51), (98, 99), (7, 7)])
def test_around_a_race_nothing_is_missing(first, second):
    short, said = shortened(make(100, (race(first, second),)), 10)
    kept = names(short)
    assert len(kept) == 10 and kept == list(range(kept[0], kept[0] + 10)), "one stretch"
    assert {first, second} <= set(kept) and len(short.races) == 1
    assert "those around a race. 90 operations are left out." in said


def test_races_elsewhere_are_counted():
    short, said = shortened(make(100, (race(50, 51), race(52, 53), race(5, 6), race(94, 95))), 10)
    assert short.races == (race(50, 51), race(52, 53)) and "90 operations and 2 of 4 races are left out" in said


def test_a_race_that_spans_too_much_makes_room_for_one_that_fits():
    short, said = shortened(make(100, (race(0, 99), race(20, 21))), 10)
    assert short.races == (race(20, 21),) and {20, 21} <= set(names(short)) and "1 of 2 races" in said
    short, said = shortened(make(100, (race(0, 99),)), 10)
    assert names(short) == list(range(90, 100)) and not short.races and "1 of 1 races" in said


def test_edges_of_the_stretch_are_kept():
    inside, outside = Edge("compute", "h2d", 95.5, 96.0), Edge("compute", "h2d", 5.5, 6.0)
    assert shortened(make(100, edges=(inside, outside)), 10)[0].edges == (inside,)
