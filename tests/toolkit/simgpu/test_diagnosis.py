"""The usual mistakes with events, each told from what was recorded, and only then."""

import pytest
import torch

from toolkit import simgpu


@pytest.fixture
def setting():
    """Collected races; three streams; a device tensor that is ready; an event."""
    simgpu.reset("lazy", on_race="collect")
    streams = [simgpu.Stream(name=name) for name in ("a", "b", "c")]
    x = torch.zeros(4, device="sim")
    simgpu.synchronize()
    return *streams, x, simgpu.Event()


def write(stream, x):
    with simgpu.stream(stream):
        x.add_(1)


def found():
    """The diagnosis of the only race, without the texts of the lines."""
    (race,) = simgpu.races()
    return race.diagnosis


def test_recorded_outside_the_with(setting):
    a, b, _, x, event = setting
    write(a, x)
    event.record()  # on the default stream
    b.wait_event(event)
    write(b, x)
    assert found().startswith(
        "b did wait for an event that was recorded after the first, but on default, not on a: "
        "tests/toolkit/simgpu/test_diagnosis.py:"
    )
    assert "`event.record()  # on the default stream`. record() without a stream means the current one" in found()


def test_recorded_outside_the_with_though_a_later_record_lies_behind_the_first(setting):
    """The next round's event is recorded on the right stream, too late for the wait."""
    a, b, _, x, event = setting
    write(a, x)
    event.record()  # on the default stream
    a.record_event()  # of the next round
    b.wait_event(event)
    write(b, x)
    assert "recorded after the first, but on default, not on a: " in found() and "# on the default stream`" in found()


def test_recorded_again_on_another_stream(setting):
    """The right record was there; a second one, of the same event, has taken its place before anybody waited."""
    a, b, _, x, event = setting
    write(a, x)
    event.record(a)
    event.record()  # on the default stream
    b.wait_event(event)
    write(b, x)
    assert found().startswith(
        "b did wait for the event behind the first, but it had been recorded again by then, on default, not on a: "
    )
    assert "`event.record()  # on the default stream`. A wait is for the last record" in found()


def test_recorded_on_another_stream_long_before_is_not_called_recorded_again(setting):
    a, b, c, x, event = setting
    event.record(c)
    write(a, x)
    b.wait_event(event)
    event.record(a)
    write(b, x)
    assert "recorded again" not in found()


def test_recorded_on_the_stream_that_waits(setting):
    a, b, _, x, event = setting
    write(a, x)
    event.record(b)
    b.wait_event(event)
    write(b, x)
    assert "recorded after the first, but on b, not on a: " in found()


def test_wait_behind_the_work(setting):
    a, b, _, x, event = setting
    write(a, x)
    event.record(a)
    write(b, x)
    b.wait_event(event)  # too late
    assert found().startswith("b does wait for the event behind the first, but only after the second: ")
    assert "# too late`" in found()


def test_waiting_for_the_stream_behind_the_work(setting):
    a, b, _, x, _ = setting
    write(a, x)
    write(b, x)
    b.wait_stream(a)
    assert found().startswith("b does wait for the stream a, but only after the second: ")


def test_a_host_that_waits_after_it_has_read(setting):
    a, _, _, x, event = setting
    host = torch.zeros(4, pin_memory=True)
    with simgpu.stream(a):
        host.copy_(x, non_blocking=True)
        event.record()
    host.tolist()
    event.synchronize()
    assert found().startswith("the host does wait for the event behind the first, but only after the second: ")


def test_a_wait_of_a_later_round_is_not_taken_for_a_late_one(setting):
    a, b, _, x, event = setting
    write(a, x)
    event.record(a)
    write(b, x)  # the race: no wait in this round
    a.wait_stream(b)
    write(a, x)
    event.record(a)
    b.wait_event(event)
    write(b, x)
    assert found().startswith("an event is recorded behind the first, but b does not wait for it: ")


def test_a_wait_that_is_late_in_every_round(setting):
    """The first report says so. In later rounds it is, just as truly, too early for the next record."""
    a, b, _, x, event = setting
    for _ in range(2):
        a.wait_stream(b)
        write(a, x)
        event.record(a)
        write(b, x)
        b.wait_event(event)
    assert "but only after the second" in simgpu.races()[0].diagnosis
    assert "but before it was recorded" in simgpu.races()[1].diagnosis


def test_another_stream_waits(setting):
    a, b, c, x, event = setting
    write(a, x)
    event.record(a)
    c.wait_event(event)  # meant for b
    write(b, x)
    assert found().startswith("c waits for the event behind the first, and has been given nothing since; b does not ")
    assert "# meant for b`" in found()


def test_another_stream_that_needs_its_wait_is_not_blamed(setting):
    a, b, c, x, event = setting
    write(a, x)
    event.record(a)
    c.wait_event(event)
    with simgpu.stream(c):
        x.sum()
    b.wait_stream(c)
    write(b, x)
    assert simgpu.races() == [], "b waited for c, which waited for a"
    d = simgpu.Stream(name="d")
    write(d, x)
    assert all("given nothing since" not in race.diagnosis for race in simgpu.races())


def test_the_wrong_event(setting):
    a, b, c, x, event = setting
    other = simgpu.Event()
    with simgpu.stream(c):
        torch.zeros(4, device="sim").add_(1)
        other.record()
    write(a, x)
    event.record(a)
    b.wait_event(other)
    write(b, x)
    text = found()
    assert text.startswith("b did wait, but for an event recorded on c, at tests/toolkit/simgpu/test_diagnosis.py:")
    assert "`other.record()`. The event behind the first is another one: " in text and "`event.record(a)`" in text


def test_the_wrong_stream_waited_for(setting):
    a, b, c, x, _ = setting
    write(a, x)
    b.wait_stream(c)
    write(b, x)
    assert found().startswith("b did wait, but for the stream c, at tests/toolkit/simgpu/test_diagnosis.py:")
    assert "`b.wait_stream(c)`" in found()


@pytest.mark.parametrize("by", ["event", "stream"])
def test_a_wait_that_the_second_needs_for_something_else_is_right_where_it_is(setting, by):
    """b waits for its own input, which c writes; that it does not wait for a is another matter."""
    a, b, c, x, event = setting
    other = torch.zeros(4, device="sim")
    simgpu.synchronize()
    write(a, x)
    write(c, other)
    if by == "event":
        event.record(c)
        b.wait_event(event)
    else:
        b.wait_stream(c)
    with simgpu.stream(b):
        x.add_(other)
    assert found() == ""


def test_a_wait_that_an_earlier_operation_needed_is_right_where_it_is(setting):
    a, b, c, x, event = setting
    other = torch.zeros(4, device="sim")
    simgpu.synchronize()
    write(a, x)
    a.record_event()
    write(c, other)
    event.record(c)
    b.wait_event(event)
    write(b, other)
    write(b, x)
    assert found().startswith("an event is recorded behind the first, but b does not wait for it: ")


def test_never_recorded(setting):
    a, b, _, x, event = setting
    write(a, x)
    b.wait_event(event)  # nothing
    write(b, x)
    assert found().startswith("b did wait for an event, but for one that was never recorded, which is no wait: ")
    assert "# nothing`" in found()


def test_an_event_not_recorded_yet_is_not_the_cause_where_another_one_was(setting):
    """The common idiom, whose first round waits for nothing: `b` forgot the other event."""
    a, b, _, x, event = setting
    write(a, x)
    event.record(a)
    b.wait_event(simgpu.Event())
    write(b, x)
    assert found().startswith("an event is recorded behind the first, but b does not wait for it: ")
    assert "The event that it waits for had not been recorded by then: " in found()


def test_recorded_before_the_work(setting):
    a, b, _, x, event = setting
    event.record(a)  # too early
    write(a, x)
    b.wait_event(event)
    write(b, x)
    assert found().startswith("b did wait for an event of a, but for one recorded before the first: ")
    assert "# too early`" in found()


@pytest.mark.parametrize("rounds", [1, 2])
def test_waited_for_before_it_was_recorded(setting, rounds):
    """In the first round the event is not recorded yet, in the next it still means the last round's record."""
    a, b, _, x, event = setting
    for _ in range(rounds):
        simgpu.synchronize()
        b.wait_event(event)
        write(a, x)
        event.record(a)
        write(b, x)
    assert len(simgpu.races()) == rounds
    assert all("for the event behind the first, but before it was recorded" in r.diagnosis for r in simgpu.races())


@pytest.mark.parametrize("timing", [False, True])
def test_events_that_measure_time_are_not_taken_for_the_missing_one(setting, timing):
    a, b, _, x, _ = setting
    write(a, x)
    a.record_event(simgpu.Event(enable_timing=timing))
    write(b, x)
    assert bool(found()) != timing


def test_nothing_is_said_where_nothing_was_recorded_or_waited_for(setting):
    a, b, _, x, _ = setting
    write(a, x)
    write(b, x)
    assert found() == "" and "Found:" not in str(simgpu.races()[0])


def test_the_report_ends_with_the_diagnosis(setting):
    a, b, _, x, event = setting
    write(a, x)
    b.wait_event(event)
    write(b, x)
    assert str(simgpu.races()[0]).splitlines()[-1].startswith("  Found: b did wait for an event, but for one that was")


def test_records_are_forgotten_once_the_host_knows_their_work(setting):
    a, b, _, x, event = setting
    for _ in range(100):
        write(a, x)
        event.record(a)
        b.wait_event(event)
        event.synchronize()
    assert len(a.records) <= 2 and len(b.waits) == 1
