"""Exercise 10.3: a full server says no at once, and when to come back."""

import pytest

from ch10_serving import Admission
from ch10_serving.api_errors import ApiError
from tests.causes import has_result


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(places: int, inside: int = 0, mean_stay: float = 0.0) -> Admission:
    made = Admission(places, Clock())
    made.inside, made.mean_stay = inside, mean_stay
    return made


def refused(door: Admission, count: int) -> ApiError:
    try:
        door.enter(count)
    except ApiError as error:
        return error
    pytest.fail(f"{door.places} places, and {count} more were let in, so that {door.inside} are inside")


@pytest.mark.exercise("10.3")
def test_as_many_as_there_are_places():
    """The last place is one, too; the time of entry comes back."""
    door = admission(4, inside=1)
    since = door.enter(3)
    has_result(since, "enter")
    assert since == 100.0, f"the clock says 100.0, and enter returned {since}"
    assert door.inside == 4, f"1 was inside and 3 came; inside says {door.inside}"


@pytest.mark.exercise("10.3")
def test_all_or_none():
    """Three places are free and four are wanted: none is taken, and fewer still get in."""
    door = admission(8, inside=5)
    error = refused(door, 4)
    assert error.status_code == 429, f"a full server answers 429; here {error.status_code}"
    assert door.inside == 5, f"5 were inside and 4 were refused; inside says {door.inside}"
    door.enter(3)
    assert door.inside == 8, f"5 were inside, 4 were refused and 3 came; inside says {door.inside}"


@pytest.mark.exercise("10.3")
def test_the_header():
    """Retry-After has whole seconds, as a string."""
    seen = (refused(admission(8, inside=8, mean_stay=6.0), 2).headers or {}).get("Retry-After")
    assert seen is not None, "the refusal has no header Retry-After"
    assert seen == "2", (
        "8 inside, each for 6 s on average: 2 places are free after 1.5 s, so that Retry-After should be '2'; it is "
        f"{seen!r}"
    )


@pytest.mark.exercise("10.3")
@pytest.mark.parametrize(
    ("inside", "places", "count", "mean_stay", "seconds"),
    [
        (8, 8, 8, 4.0, 4),  # all have to leave: one stay
        (8, 8, 1, 40.0, 5),
        (6, 8, 4, 30.0, 10),  # two places are free already
        (8, 8, 3, 4.0, 2),  # 1.5, rounded up
        (8, 8, 1, 0.0, 1),  # no request has left yet
        (8, 8, 8, 1000.0, 60),
    ],
)
def test_when_to_come_back(inside: int, places: int, count: int, mean_stay: float, seconds: int):
    """Little's law, in whole seconds, within 1 to 60."""
    seen = admission(places, inside, mean_stay).retry_after(count)
    has_result(seen, "retry_after")
    assert type(seen) is int and seen == seconds, (
        f"{inside} of {places} places taken, each for {mean_stay} s on average, {count} wanted: "
        f"{inside + count - places} must come free, and {inside} leave in {mean_stay} s. In whole seconds, 1 to 60, "
        f"that is {seconds}; seen {seen!r}"
    )


def test_the_mean_follows_the_latest_stays():
    """The first stay is the mean; later ones move it a tenth of the way."""
    door = admission(4)
    first = door.enter(3)
    door.clock.now += 2
    door.leave(first)
    assert door.mean_stay == 2 and door.inside == 2
    door.clock.now += 10
    door.leave(first)
    assert door.mean_stay == pytest.approx(3.0)
    door.give_back(1)
    assert door.inside == 0 and door.mean_stay == pytest.approx(3.0)


def test_more_than_there_are_is_no_matter_of_time():
    """What can never get in is a mistake of the caller's."""
    error = refused(admission(4), 5)
    assert error.status_code == 400 and "5 answers at once" in error.detail
