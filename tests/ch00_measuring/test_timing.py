"""Exercises 0.2 and 0.3: timing asynchronous work, and placing it on the host's clock. All in virtual time."""

import pytest

from ch00_measuring.timing import DeviceClock, measure
from tests.ch00_measuring.virtual_device import LAUNCH_MS, VirtualDevice

ex_measure = pytest.mark.exercise("0.2")
ex_clock = pytest.mark.exercise("0.3")
CLOSE = {"abs": 0.1}  # milliseconds: room for launches and records, far less than any mistake costs


def run_measure(
    device: VirtualDevice, durations_ms: list[float], *, warmup: int, repeats: int, host_ms: list[float] | None = None
):
    """Measure work whose n-th call takes durations_ms[n] on the device and host_ms[n] on the host; count the calls."""
    calls = 0

    def work() -> None:
        nonlocal calls
        device.host_work(host_ms[calls] if host_ms else 0.0)
        device.launch(durations_ms[calls] if calls < len(durations_ms) else durations_ms[-1])
        calls += 1

    try:
        timing = measure(work, device, warmup=warmup, repeats=repeats, now=device.now)
    except RuntimeError as error:
        pytest.fail(
            f"measure() read an event too early or made it without a time: {error}. Likely cause: "
            "Event(enable_timing=True) is missing, or the end event was not synchronised before elapsed_time."
        )
    return timing, calls


@ex_measure
def test_device_time_is_the_devices():
    """Work of 30 ms on the device is reported as 30 ms, though its launch returns after 0.04 ms."""
    timing, _ = run_measure(VirtualDevice(wake_ms=(2.3,) * 20), [30.0], warmup=1, repeats=3)
    assert timing.device_ms == pytest.approx(30.0, **CLOSE), (
        f"the device works for 30 ms, measure() says {timing.device_ms:.3f} ms. Likely cause: near 0 means that both "
        "events were recorded on the same side of the call: start before it, end after it. Near 32.3: the host's clock "
        "was read after synchronize(), and here the host wakes 2.3 ms late; take a pair of timing events."
    )


@ex_measure
def test_host_time_is_the_launch():
    """The host is kept for the launch alone, 0.04 ms, while the device works for 30 ms."""
    timing, _ = run_measure(VirtualDevice(), [30.0], warmup=1, repeats=3)
    assert timing.host_ms == pytest.approx(LAUNCH_MS, abs=0.005), (
        f"the launch keeps the host for {LAUNCH_MS} ms, measure() says {timing.host_ms:.3f} ms. Likely cause: about 30 "
        "means that the host's clock was read after a synchronisation: read it right before and right after the call. "
        "1,000 times too small: now() gives seconds."
    )


@ex_measure
def test_warm_up_is_left_out():
    """The first three calls are slow (loading, tuning): they run, but do not count."""
    timing, calls = run_measure(VirtualDevice(), [179.0, 120.0, 90.0, 30.0], warmup=3, repeats=3)
    assert (calls, timing.device_ms) == (6, pytest.approx(30.0, **CLOSE)), (
        "three slow first calls (179, 120, 90 ms), then 30 ms each; warmup=3, repeats=3: expected 6 calls and 30 ms, "
        f"got {calls} calls and {timing.device_ms:.1f} ms. Likely cause: the warm-up calls were skipped, or they were "
        "measured with the others."
    )


@ex_measure
def test_one_interruption_does_not_move_the_result():
    """One of five measured calls is 40 times slower on both clocks: the result stays where the other four are."""
    timing, _ = run_measure(
        VirtualDevice(), [30.0] * 3 + [1200.0] + [30.0] * 2, warmup=1, repeats=5, host_ms=[0.0] * 3 + [50.0] + [0.0] * 2
    )
    assert (timing.device_ms, timing.host_ms) == (pytest.approx(30.0, **CLOSE), pytest.approx(LAUNCH_MS, abs=0.005)), (
        f"device times 30, 30, 1200, 30, 30 ms: expected 30 ms (and {LAUNCH_MS} ms on the host), got "
        f"{timing.device_ms:.1f} ms and {timing.host_ms:.2f} ms. Likely cause: a mean instead of the median; one "
        "interruption moves a mean by a lot."
    )


@ex_measure
def test_each_call_is_timed_by_itself():
    """With calls of 10, 20, 30, 40 and 50 ms the result is 30 ms: one pair of events per call."""
    timing, _ = run_measure(VirtualDevice(), [5.0, 50.0, 10.0, 40.0, 20.0, 30.0], warmup=1, repeats=5)
    assert timing.device_ms == pytest.approx(30.0, **CLOSE), (
        f"calls of 50, 10, 40, 20 and 30 ms have the median 30 ms, measure() says {timing.device_ms:.1f} ms. Likely "
        "cause: the last call alone (or the first, or the fastest) was reported, or one pair of events was put around "
        "all of them."
    )


@ex_measure
def test_starts_from_an_idle_device():
    """Work queued earlier fills the queue: without synchronising first, the launch blocks and its time is wrong."""
    device = VirtualDevice(depth=1)
    device.launch(500.0)
    timing, _ = run_measure(device, [30.0], warmup=1, repeats=1)
    assert timing.host_ms == pytest.approx(LAUNCH_MS, abs=0.005), (
        f"with 500 ms of earlier work in the queue the launch should still take {LAUNCH_MS} ms, measure() says "
        f"{timing.host_ms:.1f} ms. Likely cause: no synchronize() before each measured call; a launch into a full "
        "queue waits for room."
    )


def placed_s(device: VirtualDevice) -> tuple[tuple[float, float], float]:
    """Tie the clocks, run work of 30 ms 50 ms later, and return where it was placed and where it really started."""
    try:
        clock = DeviceClock(device, now=device.now)
        device.host_work(50.0)
        start, end = (device.Event(enable_timing=True) for _ in range(2))
        start.record()
        device.launch(30.0)
        end.record()
        device.synchronize()
        return clock.interval(start, end), start.reached_at / 1e3
    except RuntimeError as error:
        pytest.fail(f"DeviceClock failed: {error}. Likely cause: the anchor was made without enable_timing=True.")


@ex_clock
def test_an_interval_lies_where_the_device_ran_it():
    """Work of 30 ms is placed, in seconds of the host's clock, where the device ran it."""
    got, began = placed_s(VirtualDevice(started_s=1000.0))
    assert got == (pytest.approx(began, abs=1e-4), pytest.approx(began + 0.030, abs=2e-4)), (
        f"the host's clock showed 1000 s in the beginning; the work ran from {began:.3f} to {began + 0.030:.3f} s, got "
        f"{got}. Likely cause: near (0.05, 0.08): the anchor's own time was not added; far above 1000: elapsed_time "
        "gives milliseconds, the clock seconds."
    )


@ex_clock
def test_a_busy_device_does_not_shift_the_lane():
    """With 500 ms of work in the queue the first anchor is reached late: another one is kept."""
    device = VirtualDevice(started_s=1000.0)
    device.launch(500.0)
    got, began = placed_s(device)
    assert got[0] == pytest.approx(began, abs=1e-3), (
        f"the queue was busy until 1000.500 s and the work started at {began:.3f} s, but the interval is said to start "
        f"at {got[0]:.3f} s. Likely cause: the first anchor was kept, whose two readings lie half a second "
        "apart; keep the one whose readings are closest together."
    )


@ex_clock
@pytest.mark.parametrize("interrupted", [0, 2, 4])
def test_one_interruption_does_not_shift_the_lane(interrupted: int):
    """The host wakes 2.3 ms late from one of its waits: the anchor of that try is not the one that is kept."""
    wake_ms = [0.01] * 5
    wake_ms[interrupted] = 2.3
    got, began = placed_s(VirtualDevice(wake_ms=tuple(wake_ms)))
    assert got[0] == pytest.approx(began, abs=1e-4), (
        f"the host woke {wake_ms} ms late from its waits for five anchors, and the work was placed "
        f"{(got[0] - began) * 1e3:.2f} ms beside the truth. Likely cause: one anchor only, the last anchor, or a mean "
        "of them; keep the one whose two readings of the host's clock are closest together."
    )


@ex_clock
@pytest.mark.parametrize(("reach_ms", "wake_ms"), [(0.0, 0.4), (0.4, 0.0)])
def test_the_anchor_lies_between_the_readings(reach_ms: float, wake_ms: float):
    """The host wakes 0.4 ms late, or the anchor travels 0.4 ms: the middle of the readings is 0.2 ms off at most."""
    got, began = placed_s(VirtualDevice(wake_ms=(wake_ms,) * 50, reach_ms=reach_ms))
    assert abs(got[0] - began) < 0.25e-3, (
        f"the anchor travels {reach_ms} ms to the device, and the host wakes {wake_ms} ms late from its wait; the work "
        f"was placed {(got[0] - began) * 1e3:.2f} ms beside the truth. Likely cause: the first or the second reading "
        "alone was taken for the anchor's time (take the middle of the two), or the second reading came before "
        "anchor.synchronize()."
    )


@ex_clock
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
    assert lengths == [pytest.approx(30.3, **CLOSE)] * 5, (
        f"five pieces of work of 30.3 ms, 2 to 10 hours after the anchor, measured {[round(x, 2) for x in lengths]} "
        "ms. Likely cause: the end was placed by its distance from the anchor, which a 32-bit float rounds to 0.5 ms "
        "or more by then; add start.elapsed_time(end) to the start."
    )


@ex_measure
@pytest.mark.gpu
def test_measures_a_real_gpu():
    """On a GPU, a kernel that sleeps keeps the device far longer than its launch keeps the host."""
    import torch

    timing = measure(lambda: torch.cuda._sleep(50_000_000), torch.cuda)
    assert timing.device_ms > 5 * timing.host_ms, (
        f"a sleeping kernel: {timing}. Likely cause: the host's clock was read after a synchronisation."
    )
