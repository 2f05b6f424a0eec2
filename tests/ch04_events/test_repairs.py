"""Exercises 4.3 to 4.7: five small programs whose events have a mistake each."""

import pytest

from ch04_events import repairs
from ch04_events.tryout import Seen, try_out
from tests.simulated import needs_simulator
from tests.words import counted
from toolkit.device import accelerator

pytestmark = needs_simulator
# The race detector needs one of them; wrong numbers show under the unlucky ones only.
every_policy = pytest.mark.parametrize("policy", ["eager", "lazy", *(f"random:{seed}" for seed in range(4))])


def assert_ordered(seen: Seen, right: list[float], policy: str) -> None:
    """No race, and the numbers are right."""
    luck = "right, by luck" if seen.result == right else f"{seen.result}, and should be {right}"
    assert not seen.races, (
        f"under the policy {policy!r} the numbers are {luck}. {counted(len(seen.races), 'race')}; the first one:\n"
        f"{seen.races[0]}"
    )
    assert seen.result == right, (
        f"nothing races, but under the policy {policy!r} the numbers are {seen.result}, and should be {right}. Has an "
        "operation got lost, or changed places with another one of its stream?"
    )


def assert_as_before(seen: Seen, lanes: list[tuple[str, str]], waits: bool = False) -> None:
    """Every operation is still on its stream, and the host waits only where it may."""
    assert sorted(seen.lanes) == sorted(lanes), (
        "on one stream everything is in order, but nothing overlaps. Each operation is to stay where it was, on "
        f"{_listed(lanes)}; seen: {_listed(seen.lanes)}. Order the streams by events"
    )
    if not waits:
        assert not seen.waits, (
            f"the host waited in: {seen.waits[0]}. That orders the streams, and keeps the host from everything else "
            "meanwhile. Let a stream wait, with stream.wait_event"
        )


def _listed(lanes: list[tuple[str, str]]) -> str:
    return ", ".join(f"{lane} ({name})" for name, lane in lanes)


@pytest.mark.exercise("4.3")
@every_policy
def test_loaded_before_doubled(policy: str):
    """The numbers are on the device before they are doubled: that order is promised."""
    assert_ordered(try_out(repairs.load_and_double, "y", policy, loaded=False), [2.0, 4.0, 6.0], policy)


@pytest.mark.exercise("4.3")
def test_loading_and_doubling_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.load_and_double, "y", "eager", loaded=False)
    assert_as_before(seen, [("H2D copy", "h2d"), ("mul", "compute")])


@pytest.mark.exercise("4.4")
@every_policy
def test_doubled_before_fetched(policy: str):
    """The numbers are doubled before they are copied to the host: that order is promised."""
    assert_ordered(try_out(double_again, "host_out", policy, loaded=True), [4.0, 8.0, 12.0], policy)


@pytest.mark.exercise("4.4")
def test_doubling_and_fetching_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.double_and_fetch, "host_out", "eager", loaded=True)
    assert_as_before(seen, [("mul", "compute"), ("D2H copy", "d2h")])


@pytest.mark.exercise("4.5")
@every_policy
def test_doubled_before_loaded_again(policy: str):
    """The numbers are doubled before others take their place: that order is promised."""
    assert_ordered(try_out(load_others, "y", policy, loaded=True), [2.0, 4.0, 6.0], policy)


@pytest.mark.exercise("4.5")
def test_doubling_and_loading_again_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.double_and_load_again, "y", "eager", loaded=True)
    assert_as_before(seen, [("mul", "compute"), ("H2D copy", "h2d")])


@pytest.mark.exercise("4.6")
@every_policy
def test_both_ready_before_added(policy: str):
    """The numbers and the hundreds are there before they are added: both orders are promised."""
    assert_ordered(try_out(repairs.load_and_add, "z", policy, loaded=False), [101.0, 102.0, 103.0], policy)


@pytest.mark.exercise("4.6")
def test_loading_filling_and_adding_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.load_and_add, "z", "eager", loaded=False)
    assert_as_before(seen, [("H2D copy", "h2d"), ("fill_", "side"), ("add", "compute")])


@pytest.mark.exercise("4.7")
@every_policy
def test_fetched_before_read(policy: str):
    """The numbers are on the host before it reads them: that order is promised."""
    assert_ordered(try_out(repairs.fetch, "host_out", policy, loaded=True), [2.0, 4.0, 6.0], policy)


@pytest.mark.exercise("4.7")
def test_fetching_is_where_it_was():
    """The copy is on its stream, and the host waits no longer than for it."""
    seen = try_out(repairs.fetch, "host_out", "eager", loaded=True)
    assert_as_before(seen, [("D2H copy", "d2h")], waits=True)
    late = [wait for wait in seen.waits if not wait.startswith(("Event.synchronize", "Stream.synchronize"))]
    assert not late, f"the host waited in: {late[0]}. That waits for all streams; fetched is behind the one copy"


def double_again(streams, numbers):
    """Doubles the doubles, so that numbers that were fetched too early are seen."""
    numbers.x.copy_(numbers.y)
    accelerator.synchronize()
    repairs.double_and_fetch(streams, numbers)


def load_others(streams, numbers):
    """Other numbers take the place, so that doubles of them are seen."""
    numbers.host_in.fill_(50.0)
    repairs.double_and_load_again(streams, numbers)
