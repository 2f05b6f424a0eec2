"""A machine that four numbers describe, and its steps on the simulated GPU's virtual clock.

What chapters 0 and 2 forecast is compared with these runs. No time is measured here: the clock is virtual, so the
result is the same on every computer. The simulated GPU needs a process that cannot use CUDA.
"""

from collections import Counter
from dataclasses import dataclass

import torch

from toolkit import device
from toolkit.errors import UserError
from toolkit.timeline import Recording, Span

# How the simulator calls what a step queues, and how a timeline does.
NAMES = {"H2D copy": ("copy in", "h2d"), "forward": ("forward", "compute"), "D2H copy": ("copy out", "d2h")}


@dataclass(frozen=True)
class Machine:
    """What a step costs, in milliseconds. Launches and waits cost nothing.

    Attributes:
        host_ms: the host's work on the step.
        copy_ms: one copy between host and device; a step has two, its inputs in and its results out.
        forward_ms: the model's forward.
        row_ms: the host's work on each row of the step, on top of `host_ms`.
    """

    host_ms: float
    copy_ms: float
    forward_ms: float
    row_ms: float = 0.0


class Steps:
    """Queues a machine's steps on the simulated GPU, whose clock starts at 0 now.

    Raises:
        UserError: this process can use CUDA, and so has no simulated GPU.
    """

    def __init__(self, machine: Machine) -> None:
        if not device.is_simulated():
            raise UserError("this runs on the simulated GPU: start it without CUDA, with an empty CUDA_VISIBLE_DEVICES")
        fixed = {"H2D copy": machine.copy_ms, "D2H copy": machine.copy_ms}
        costs = device.accelerator.Costs(launch_ms=0.0, call_ms=0.0, fixed=fixed)
        device.accelerator.reset(costs=costs)
        self.machine = machine

    def launch(self) -> None:
        """Queue copy in, forward and copy out of one step on the current stream; nothing waits."""
        host = torch.zeros(1, dtype=torch.int64, device="cpu", pin_memory=True)
        inputs, results = (torch.empty(1, dtype=torch.int64, device=device.DEVICE) for _ in range(2))
        inputs.copy_(host, non_blocking=True)
        device.launch("forward", lambda ids, out: out.copy_(ids), [inputs], [results], self.machine.forward_ms)
        host.copy_(results, non_blocking=True)

    def recording(self) -> Recording:
        """All that has happened, from time 0 to the host's time now. The n-th span of a name belongs to step n."""
        seen: Counter[str] = Counter()
        spans = []
        for span in device.accelerator.spans():
            name, lane = NAMES.get(span.name, (span.name, span.lane))
            spans.append(Span(name, lane, span.start / 1e3, span.end / 1e3, seen[name]))
            seen[name] += 1
        window = 0.0, device.now_ms() / 1e3
        return Recording(tuple(spans), "simulated", "a machine of given numbers", window)


def take_turns(machine: Machine, num_steps: int) -> Recording:
    """Steps one after the other: host work, copy in, forward, copy out, and the host waits until that is done."""
    steps = Steps(machine)
    for _ in range(num_steps):
        device.host_work(machine.host_ms, "prepare")
        steps.launch()
        device.accelerator.synchronize()
    return steps.recording()


def overlap(machine: Machine, num_steps: int) -> Recording:
    """The same steps, each in a stream of its own, and the host waits once, at the end.

    Host, copies in, forwards and copies out go on at the same time, each with one step after the other.
    """
    steps = Steps(machine)
    for step in range(num_steps):
        device.host_work(machine.host_ms, "prepare")
        with device.accelerator.stream(device.new_stream(f"step {step}")):
            steps.launch()
    device.accelerator.synchronize()
    return steps.recording()
