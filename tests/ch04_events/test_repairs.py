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


def assert_as_before(seen: Seen, operations: list[tuple[str, str, str, str]], waits: bool = False) -> None:
    """Every operation is still on its stream, with the tensors that it had, and the host waits only where it may.

    Args:
        operations: of each its name, its stream, what it reads, and what it writes.
    """
    lanes = [(name, lane) for name, lane, _, _ in operations]
    assert sorted(seen.lanes) == sorted(lanes), (
        f"each operation is to stay where it was: {_listed(lanes)}; seen: {_listed(seen.lanes)}. Order the streams by "
        "events, not by moving, adding or leaving out work"
    )
    done = {(span.name, span.lane): span.touched for span in accelerator.spans()}
    for name, lane, *wanted in operations:
        touched = done[name, lane]
        read, written = (words.removesuffix(" of the numbers") for words in (touched.reads, touched.writes))
        assert [read, written] == wanted, (
            f"the program's {name} goes {_way(*wanted)}; here it goes {_way(read, written)}. That avoids the race by "
            "doing something else: leave the operations as they are, and order them"
        )
    if not waits:
        assert not seen.waits, (
            f"the host waited in: {seen.waits[0]}. That orders the streams, and keeps the host from everything else "
            "meanwhile. Let a stream wait, with stream.wait_event"
        )


def _way(read: str, written: str) -> str:
    return f"{read or 'from nowhere'} -> {written}"


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
    assert_as_before(seen, [("H2D copy", "h2d", "pinned host_in", "x"), ("mul", "compute", "x", "y")])


@pytest.mark.exercise("4.4")
@every_policy
def test_doubled_before_fetched(policy: str):
    """The numbers are doubled before they are copied to the host: that order is promised."""
    assert_ordered(try_out(double_again, "host_out", policy, loaded=True), [4.0, 8.0, 12.0], policy)


@pytest.mark.exercise("4.4")
def test_doubling_and_fetching_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.double_and_fetch, "host_out", "eager", loaded=True)
    assert_as_before(seen, [("mul", "compute", "x", "y"), ("D2H copy", "d2h", "y", "pinned host_out")])


@pytest.mark.exercise("4.5")
@every_policy
def test_doubled_before_loaded_again(policy: str):
    """The numbers are doubled before others take their place: that order is promised."""
    assert_ordered(try_out(load_others, "y", policy, loaded=True), [2.0, 4.0, 6.0], policy)


@pytest.mark.exercise("4.5")
def test_doubling_and_loading_again_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.double_and_load_again, "y", "eager", loaded=True)
    assert_as_before(seen, [("mul", "compute", "x", "y"), ("H2D copy", "h2d", "pinned host_in", "x")])


@pytest.mark.exercise("4.6")
@every_policy
def test_both_ready_before_added(policy: str):
    """The numbers and the hundreds are there before they are added: both orders are promised."""
    assert_ordered(try_out(repairs.load_and_add, "z", policy, loaded=False), [101.0, 102.0, 103.0], policy)


@pytest.mark.exercise("4.6")
def test_loading_filling_and_adding_are_where_they_were():
    """Each operation is on its stream, and the host waits for nothing."""
    seen = try_out(repairs.load_and_add, "z", "eager", loaded=False)
    operations = [
        ("H2D copy", "h2d", "pinned host_in", "x"),
        ("fill_", "side", "", "y"),
        ("add", "compute", "x, y", "z"),
    ]
    assert_as_before(seen, operations)


@pytest.mark.exercise("4.7")
@every_policy
def test_fetched_before_read(policy: str):
    """The numbers are on the host before it reads them: that order is promised."""
    assert_ordered(try_out(fetch_others, "host_out", policy, loaded=True), [50.0, 50.0, 50.0], policy)


@pytest.mark.exercise("4.7")
def test_fetching_is_where_it_was():
    """The copy is on its stream, and the host waits no longer than for it."""
    seen = try_out(repairs.fetch, "host_out", "eager", loaded=True)
    assert_as_before(seen, [("D2H copy", "d2h", "y", "pinned host_out")], waits=True)
    late = [wait for wait in seen.waits if not wait.startswith(("Event.synchronize", "Stream.synchronize"))]
    assert not late, (
        f"the host waited in: {late[0]}. Let it wait for the event that is recorded behind the copy, or for its stream"
    )


def double_again(streams, numbers):
    """Doubles the doubles, so that numbers that were fetched too early are seen."""
    numbers.x.copy_(numbers.y)
    accelerator.synchronize()
    repairs.double_and_fetch(streams, numbers)


def load_others(streams, numbers):
    """Other numbers take the place, so that doubles of them are seen."""
    numbers.host_in.fill_(50.0)
    repairs.double_and_load_again(streams, numbers)


def fetch_others(streams, numbers):
    """Other doubles are fetched, so that what is returned has been read."""
    numbers.y.fill_(50.0)
    accelerator.synchronize()
    return repairs.fetch(streams, numbers)
