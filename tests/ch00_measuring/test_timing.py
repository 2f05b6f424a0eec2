"""Exercise 0.2: timing asynchronous work. All in virtual time."""

import pytest

from ch00_measuring.timing import Timing, measure
from tests.causes import has_result, likely
from tests.ch00_measuring.virtual_device import LAUNCH_MS, RECORD_MS, VirtualDevice

pytestmark = pytest.mark.exercise("0.2")
CLOSE = {"abs": 0.15}  # milliseconds: room for launches and records, far less than any mistake costs
EXACT = {"abs": 0.001}  # milliseconds: less than one record takes


def is_about(seen: float, ms: float) -> bool:
    return seen == pytest.approx(ms, **CLOSE)


def run_measure(
    device: VirtualDevice, durations_ms: list[float], *, warmup: int, repeats: int, host_ms: list[float] | None = None
) -> tuple[Timing, int]:
    """Measure work whose n-th call takes durations_ms[n] on the device and host_ms[n] on the host; count the calls."""
    calls = 0

    def work() -> None:
        nonlocal calls
        device.host_work(host_ms[calls] if host_ms and calls < len(host_ms) else 0.0)
        device.launch(durations_ms[calls] if calls < len(durations_ms) else durations_ms[-1])
        calls += 1

    try:
        timing = measure(work, device, warmup=warmup, repeats=repeats, now=device.now)
    except NotImplementedError:  # not started
        raise
    except RuntimeError as error:
        pytest.fail(f"measure() has read an event that cannot be read. {error}")
    has_result(timing, "measure()")
    device.assert_read("measure()")
    return timing, calls


def test_device_time_is_the_devices():
    """Work of 30 ms on the device is reported as 30 ms, though its launch returns after 0.04 ms."""
    timing, _ = run_measure(VirtualDevice(wake_ms=(2.3,) * 20), [30.0], warmup=1, repeats=3)
    seen = timing.device_ms
    assert is_about(seen, 30.0), f"the device works for 30 ms, measure() says {seen:.3f} ms. " + likely(
        (is_about(timing.host_ms, 30.0), "The 30 ms are in host_ms: are the two times swapped?"),
        (
            is_about(seen, 0.0) and seen != pytest.approx(0.03, abs=0.001),
            "Both events were recorded on the same side of the call: start belongs before it, end after it.",
        ),
        (is_about(seen, -30.0), "Less than nothing: it is start.elapsed_time(end), the earlier one first."),
        (
            is_about(seen, 32.3),
            "Here the host wakes 2.3 ms late, and that is in it: the host's clock was read in place of a pair of "
            "timing events, or the host waits between the two.",
        ),
        (
            is_about(seen / 1e3, 30.0) or is_about(seen * 1e3, 30.0),
            "Off by 1,000: elapsed_time gives milliseconds already.",
        ),
    )


def test_host_time_is_the_launch():
    """The host is kept for the launch alone, 0.04 ms, while the device works for 30 ms."""
    timing, _ = run_measure(VirtualDevice(), [30.0], warmup=1, repeats=3)
    seen = timing.host_ms
    assert seen == pytest.approx(LAUNCH_MS, **EXACT), (
        f"the launch keeps the host for {LAUNCH_MS} ms, measure() says {seen:.5f} ms. "
    ) + likely(
        (is_about(seen, 30.0), "The device's 30 ms are in it: the host's clock was read after a synchronisation."),
        (seen == pytest.approx(LAUNCH_MS / 1e3), "1,000 times too small: now() gives seconds."),
        (
            any(seen == pytest.approx(LAUNCH_MS + count * RECORD_MS, **EXACT) for count in (1, 2)),
            f"That is the launch and {(seen - LAUNCH_MS) / RECORD_MS:.0f} of the two records ({RECORD_MS} ms each): "
            "read the clock right before and right after work(), the events outside.",
        ),
        (abs(seen) > 100, "Far off: were the two readings taken from different clocks? Both are now()."),
    )


@pytest.mark.parametrize(("warmup", "repeats"), [(3, 3), (1, 4), (0, 2)])
def test_warm_up_is_left_out(warmup: int, repeats: int):
    """The first calls are slow (loading, tuning): they run, but do not count. `warmup` and `repeats` say how many."""
    slow = [179.0, 120.0, 90.0][:warmup]
    timing, calls = run_measure(VirtualDevice(), [*slow, 30.0], warmup=warmup, repeats=repeats)
    said = f"warmup={warmup}, repeats={repeats}, calls of {[*slow, 30.0]} ms, the last for all later ones"
    assert calls == warmup + repeats, f"{said}: {warmup + repeats} calls were due, seen {calls}. " + likely(
        (calls == repeats, "The warm-up calls were skipped."),
        otherwise="Both numbers are arguments of measure().",
    )
    assert is_about(timing.device_ms, 30.0), (
        f"{said}: 30 ms was due, got {timing.device_ms:.1f} ms. Were the warm-up calls measured with the others?"
    )


def test_one_interruption_does_not_move_the_result():
    """One of five measured calls is 40 times slower on both clocks: the result stays where the other four are."""
    device_ms, host_ms = [30.0, 30.0, 30.0, 1200.0, 30.0, 30.0], [0.0, 0.0, 0.0, 50.0, 0.0, 0.0]
    timing, _ = run_measure(VirtualDevice(), device_ms, warmup=1, repeats=5, host_ms=host_ms)
    means = f"the mean is {(4 * 30 + 1200) / 5:.0f} ms on the device and {LAUNCH_MS + 50 / 5:.2f} ms on the host"
    assert is_about(timing.device_ms, 30.0) and is_about(timing.host_ms, LAUNCH_MS), (
        f"device times {device_ms[1:]}, host times {LAUNCH_MS} ms and once 50 ms more: expected 30 ms and {LAUNCH_MS} "
        f"ms, got {timing.device_ms:.1f} ms and {timing.host_ms:.2f} ms. Is it a mean instead of the median ({means})?"
    )


def test_each_call_is_timed_by_itself():
    """With calls of 10, 20, 30, 40 and 50 ms the result is 30 ms: one pair of events per call."""
    timing, _ = run_measure(VirtualDevice(), [5.0, 50.0, 10.0, 40.0, 25.0, 35.0], warmup=1, repeats=5)
    seen = timing.device_ms
    assert is_about(seen, 35.0), (
        f"calls of 50, 10, 40, 25 and 35 ms have the median 35 ms, measure() says {seen:.1f} ms. "
    ) + likely(
        (is_about(seen, 10.0), "That is the fastest."),
        (is_about(seen, 50.0), "That is the slowest, or the first."),
        (is_about(seen, 160.0), "That is their sum: one pair of events was put around all of them."),
        (is_about(seen, 32.0), "That is their mean: use the median, and one pair of events per call."),
        (is_about(seen, 25.0), "That is the median with the warm-up call, or of fewer calls."),
    )


def test_the_median_of_an_even_number_of_calls():
    """With calls of 10, 40, 20 and 30 ms the result is 25 ms, halfway between the two in the middle."""
    timing, _ = run_measure(VirtualDevice(), [5.0, 10.0, 40.0, 20.0, 30.0], warmup=1, repeats=4)
    seen = timing.device_ms
    assert is_about(seen, 25.0), (
        f"calls of 10, 40, 20 and 30 ms have the median 25 ms, measure() says {seen:.1f} ms. "
    ) + likely(
        (
            is_about(seen, 30.0) or is_about(seen, 20.0),
            "Of an even number of calls two are in the middle: statistics.median takes the mean of both.",
        ),
    )


@pytest.mark.parametrize("repeats", [1, 4])
def test_starts_from_an_idle_device(repeats: int):
    """Work queued earlier fills the queue: without synchronising first, the launch blocks and its time is wrong."""
    device = VirtualDevice(depth=1)
    device.launch(500.0)
    timing, _ = run_measure(device, [30.0], warmup=1, repeats=repeats)
    assert timing.host_ms == pytest.approx(LAUNCH_MS, **EXACT), (
        f"with 500 ms of earlier work in the queue a launch should still take {LAUNCH_MS} ms, measure() says "
        f"{timing.host_ms:.3f} ms. "
    ) + likely(
        (
            timing.host_ms > 1,
            "The launches found a full queue and waited for room: no synchronize() before each measured call.",
        ),
    )


@pytest.mark.gpu
def test_measures_a_real_gpu():
    """On a GPU, a kernel that sleeps keeps the device far longer than its launch keeps the host."""
    import torch

    timing = measure(lambda: torch.cuda._sleep(50_000_000), torch.cuda)
    assert timing.device_ms > 5 * timing.host_ms, (
        f"a sleeping kernel: {timing}. Likely cause: the host's clock was read after a synchronisation."
    )
