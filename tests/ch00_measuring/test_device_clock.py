"""Exercise 0.3: placing what the device did on the host's clock. All in virtual time."""

import pytest

from ch00_measuring.timing import DeviceClock
from tests.causes import has_result, likely
from tests.ch00_measuring.virtual_device import VirtualDevice

pytestmark = pytest.mark.exercise("0.3")


def placed_s(device: VirtualDevice) -> tuple[tuple[float, float], float]:
    """Tie the clocks, run work of 30 ms 50 ms later, and return where it was placed and where it really started."""
    try:
        clock = DeviceClock(device, now=device.now)
        device.assert_read("DeviceClock")
        device.host_work(50.0)
        start, end = (device.Event(enable_timing=True) for _ in range(2))
        start.record()
        device.launch(30.0)
        end.record()
        device.synchronize()
        placed = clock.interval(start, end)
    except NotImplementedError:  # not started
        raise
    except RuntimeError as error:
        pytest.fail(f"DeviceClock has read an event that cannot be read. {error}")
    has_result(placed, "interval()")
    return placed, start.reached_at / 1e3


def test_an_interval_lies_where_the_device_ran_it():
    """Work of 30 ms is placed, in seconds of the host's clock, where the device ran it."""
    (first, last), began = placed_s(VirtualDevice(started_s=1000.0))
    said = f"the host's clock showed 1000 s in the beginning, and the work ran from {began:.3f} to {began + 0.03:.3f} s"
    distance = began - 1000.0
    assert first == pytest.approx(began, abs=1e-4), f"{said}; its start is placed at {first:.3f}. " + likely(
        (0 < first < 1, "That is its distance from the anchor: the anchor's own time was not added."),
        (
            first == pytest.approx(1000 + distance * 1e3, rel=0.01) and first > 1001,
            "Milliseconds were added to seconds: elapsed_time gives milliseconds, the clock seconds.",
        ),
        (first > 100_000, "That is in milliseconds; the host's clock has seconds."),
        (
            first == pytest.approx(1000 - distance, abs=1e-3),
            "It lies before the anchor: it is self.anchor.elapsed_time(start), the earlier one first.",
        ),
    )
    assert last - first == pytest.approx(0.030, abs=2e-4), (
        f"{said}; it is placed from {first:.3f} to {last:.3f}, so its length is {last - first:.3f} s. "
    ) + likely(
        (last == pytest.approx(0.030, abs=2e-4), "The second number is the length; it has to be the end."),
        (
            last - first == pytest.approx(-0.030, abs=2e-4),
            "It ends before it starts: start.elapsed_time(end), the earlier one first.",
        ),
        (last - first > 1, "elapsed_time gives milliseconds, the clock seconds."),
    )


def test_a_busy_device_does_not_shift_the_lane():
    """With 500 ms of work in the queue the first anchor is reached late: another one is kept."""
    device = VirtualDevice(started_s=1000.0)
    device.launch(500.0)
    (first, _), began = placed_s(device)
    assert first == pytest.approx(began, abs=1e-3), (
        f"the queue was busy until 1000.500 s and the work started at {began:.3f} s, but the interval is said to start "
        f"at {first:.3f} s. "
    ) + likely(
        (
            first == pytest.approx(began - 0.25, abs=1e-3),
            "The first anchor was kept, whose readings lie 0.5 s apart; keep the one whose readings are closest.",
        ),
        (
            first < 1000.2,
            "The second reading came before the device had reached the anchor: wait with anchor.synchronize() first.",
        ),
    )


@pytest.mark.parametrize("quiet", range(5))
@pytest.mark.parametrize("interrupted", ["in its wait", "in the call of record"])
def test_interruptions_do_not_shift_the_lane(quiet: int, interrupted: str):
    """The host is interrupted in all tries but one, by 2 to 6 ms: the anchor of the quiet one is kept."""
    late = [6.0, 5.0, 4.0, 3.0, 2.0]
    late[quiet] = 0.0
    in_wait = interrupted == "in its wait"
    (first, _), began = placed_s(
        VirtualDevice(wake_ms=tuple(late) if in_wait else (), stuck_ms=() if in_wait else tuple(late))
    )
    assert first == pytest.approx(began, abs=1e-4), (
        f"the host was interrupted {interrupted} for {late} ms in five tries, and the work was placed "
        f"{(first - began) * 1e3:.2f} ms beside the truth. Keep the anchor whose two readings of the clock are closest "
        "together, with its own time: not one anchor only, not the first, the last anchor, or a mean of them. "
    ) + likely(
        (not in_wait, "And the first reading comes before anchor.record(), or an interruption in it goes unseen.")
    )


@pytest.mark.parametrize(("reach_ms", "wake_ms"), [(0.0, 0.4), (0.4, 0.0)])
def test_the_anchor_lies_between_the_readings(reach_ms: float, wake_ms: float):
    """The host wakes 0.4 ms late, or the anchor travels 0.4 ms: the middle of the readings is 0.2 ms off at most."""
    (first, _), began = placed_s(VirtualDevice(wake_ms=(wake_ms,) * 50, reach_ms=reach_ms))
    off = (first - began) * 1e3
    assert abs(off) < 0.25, (
        f"the anchor travels {reach_ms} ms to the device, and the host wakes {wake_ms} ms late from its wait; the work "
        f"was placed {off:.2f} ms beside the truth. "
    ) + likely(
        (
            off < -0.3,
            "The first reading alone was taken for the anchor's time (take the middle of the two), or the second one "
            "came before anchor.synchronize().",
        ),
        (off > 0.3, "The second reading alone was taken for the anchor's time; take the middle of the two."),
    )


def test_lengths_stay_exact_far_from_the_anchor():
    """Two hours after the anchor, work of 30 ms is still 30 ms long, though elapsed_time has only 32 bits."""
    device = VirtualDevice()
    clock = DeviceClock(device, now=device.now)
    lengths = []
    for _ in range(5):
        device.host_work(7_200_123.4)
        start, end = (device.Event(enable_timing=True) for _ in range(2))
        start.record()
        device.launch(30.3)
        end.record()
        device.synchronize()
        first, last = clock.interval(start, end)
        lengths.append((last - first) * 1e3)
    assert lengths == [pytest.approx(30.3, abs=0.15)] * 5, (
        f"five pieces of work of 30.3 ms, 2 to 10 hours after the anchor, measured {[round(x, 2) for x in lengths]} "
        "ms. "
    ) + likely(
        (
            all(abs(length - 30.3) < 10 for length in lengths),
            "The end was placed by its distance from the anchor, which a 32-bit float rounds to 0.5 ms or more by "
            "then; add start.elapsed_time(end) to the start.",
        ),
    )
