"""A machine that a few numbers describe, with several batches in flight, on the simulated GPU's virtual clock.

What chapters 5 and 9 forecast is compared with these runs. As in `toolkit.machine`, no time is measured.
"""

from collections import deque
from dataclasses import replace

from toolkit import device
from toolkit.machine import Machine, Steps
from toolkit.timeline import Recording


def keep_in_flight(machine: Machine, num_steps: int, max_in_flight: int) -> Recording:
    """Chapter 5's loop: host work, launch, and when so many batches are in flight, wait for the oldest.

    Args:
        machine: what a step costs; `row_ms` is not used.
        num_steps: so many batches are launched; at the end the host waits for all of them.
        max_in_flight: at least 1, with which each batch is waited for before the host works on the next one.

    Raises:
        UserError: this process can use CUDA, and so has no simulated GPU.
    """
    steps = Steps(machine)
    in_flight: deque[device.accelerator.Event] = deque()
    for step in range(num_steps):
        device.host_work(machine.host_ms, "prepare")
        with device.accelerator.stream(device.new_stream(f"step {step}")):
            steps.launch()
            in_flight.append(device.accelerator.Event())
            in_flight[-1].record()
        if len(in_flight) == max_in_flight:
            in_flight.popleft().synchronize()
    device.accelerator.synchronize()
    return steps.recording()


def settled(recording: Recording, period: int) -> Recording:
    """The recording with its numbers taken over the second half, from the start of a forward to that of a later one.

    Args:
        recording: of a loop that repeats itself by then.
        period: after so many steps it is where it was: `max_in_flight`. The window holds a whole number of periods.
    """
    starts = [start for start, _ in recording.intervals("compute")]
    steps = len(starts) // 2 // period * period
    return replace(recording, steady_window=(starts[-1 - steps], starts[-1]))


def step_ms(recording: Recording) -> float:
    """The average time from the start of a forward to the start of the next one, of a settled recording."""
    first, last = recording.window
    steps = sum(first <= start < last for start, _ in recording.intervals("compute"))
    return (last - first) * 1e3 / steps
