"""Five small programs, each with one mistake in its events, and so with a race.

They work on a few numbers (tryout.py) over the streams of the engine, and each is right on a GPU that is lucky. `make
check EX=4.3` shows what the detector reports of the first one. Repair it so that the order is promised: every operation
stays on its stream, and the host waits only where the program reads a result.
"""

import torch

from ch04_events.tryout import Numbers, Streams
from toolkit.device import accelerator


def load_and_double(streams: Streams, numbers: Numbers) -> None:
    """Copy the numbers to the device, then double them there: host_in -> x on h2d, x -> y on compute."""
    loaded = accelerator.Event()
    with accelerator.stream(streams.h2d):
        numbers.x.copy_(numbers.host_in, non_blocking=True)
        # BEGIN SOLUTION 4.3
        # BUG
        loaded.record()
        # END SOLUTION
    # BEGIN SOLUTION 4.3
    # BUG loaded.record()
    # END SOLUTION
    with accelerator.stream(streams.compute):
        streams.compute.wait_event(loaded)
        torch.mul(numbers.x, 2, out=numbers.y)


def double_and_fetch(streams: Streams, numbers: Numbers) -> None:
    """Double the numbers, then copy them to the host: x -> y on compute, y -> host_out on d2h."""
    doubled = accelerator.Event()
    with accelerator.stream(streams.compute):
        torch.mul(numbers.x, 2, out=numbers.y)
        doubled.record()
    with accelerator.stream(streams.d2h):
        # BEGIN SOLUTION 4.4
        # BUG numbers.host_out.copy_(numbers.y, non_blocking=True)
        # BUG streams.d2h.wait_event(doubled)
        streams.d2h.wait_event(doubled)
        numbers.host_out.copy_(numbers.y, non_blocking=True)
        # END SOLUTION


def double_and_load_again(streams: Streams, numbers: Numbers) -> None:
    """Double the numbers, then use their place again: x -> y on compute, host_in -> x on h2d."""
    doubled = accelerator.Event()
    with accelerator.stream(streams.compute):
        torch.mul(numbers.x, 2, out=numbers.y)
        doubled.record()
    with accelerator.stream(streams.h2d):
        # BEGIN SOLUTION 4.5
        # BUG streams.compute.wait_event(doubled)
        streams.h2d.wait_event(doubled)
        # END SOLUTION
        numbers.x.copy_(numbers.host_in, non_blocking=True)


def load_and_add(streams: Streams, numbers: Numbers) -> None:
    """Add 100 to the numbers: host_in -> x on h2d, 100 -> y on side, x + y -> z on compute."""
    # BEGIN SOLUTION 4.6
    # BUG ready = accelerator.Event()
    loaded, filled = accelerator.Event(), accelerator.Event()
    # END SOLUTION
    with accelerator.stream(streams.h2d):
        numbers.x.copy_(numbers.host_in, non_blocking=True)
        # BEGIN SOLUTION 4.6
        # BUG ready.record()
        loaded.record()
        # END SOLUTION
    with accelerator.stream(streams.side):
        numbers.y.fill_(100)
        # BEGIN SOLUTION 4.6
        # BUG ready.record()
        filled.record()
        # END SOLUTION
    with accelerator.stream(streams.compute):
        # BEGIN SOLUTION 4.6
        # BUG streams.compute.wait_event(ready)
        streams.compute.wait_event(loaded)
        streams.compute.wait_event(filled)
        # END SOLUTION
        torch.add(numbers.x, numbers.y, out=numbers.z)


def fetch(streams: Streams, numbers: Numbers) -> list[float]:
    """The doubled numbers, on the host: y -> host_out on d2h, then read."""
    fetched = accelerator.Event()
    with accelerator.stream(streams.d2h):
        numbers.host_out.copy_(numbers.y, non_blocking=True)
        # BEGIN SOLUTION 4.7
        # BUG
        fetched.record()
        # END SOLUTION
    fetched.synchronize()
    return list(numbers.host_out.tolist())
