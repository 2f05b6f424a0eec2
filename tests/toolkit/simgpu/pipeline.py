"""A double-buffered pipeline over three streams, and five ways to get it wrong. Runs on CUDA and on the simulated GPU.

Each step copies a batch to the device, computes tanh(x @ w), and copies the result back. Two sets of buffers on the
device; four host buffers for results, since more results in flight than sets is what makes some of the mistakes real.
"""

import torch

from toolkit.device import DEVICE, accelerator, new_stream

BUGS = {
    "compute does not wait for h2d": 2,
    "d2h does not wait for compute": 2,
    "host buffer reused": 2,
    "device buffer overwritten": 1,  # with one set
    "output read before synchronise": 2,
}


def example(steps: int = 8, rows: int = 8, width: int = 16) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Batches (rows, width), weights (width, width), and what a correct pipeline gives (steps, rows, width)."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(rows, width, generator=generator) for _ in range(steps)]
    weights = torch.randn(width, width, generator=generator) / width**0.5
    return batches, weights, torch.stack([(batch @ weights).tanh() for batch in batches])


def serve(batches: list[torch.Tensor], weights: torch.Tensor, bug: str | None = None) -> torch.Tensor:
    """Run the pipeline with one thing left out. `weights` is on the device. Returns (steps, *batch shape)."""
    sets, outputs, shape = BUGS.get(bug, 2), 4, batches[0].shape
    h2d, compute, d2h = (new_stream(name) for name in ("h2d", "compute", "d2h"))
    host_in = [torch.empty(shape, pin_memory=True) for _ in range(sets)]
    host_out = [torch.empty(shape, pin_memory=True) for _ in range(outputs)]
    device_in = [torch.empty(shape, device=DEVICE) for _ in range(sets)]
    device_out = [torch.empty(shape, device=DEVICE) for _ in range(sets)]
    loaded, computed, copied = ([accelerator.Event() for _ in range(sets)] for _ in range(3))
    ready = [accelerator.Event() for _ in range(outputs)]
    for stream in (h2d, compute, d2h):
        stream.wait_stream(accelerator.current_stream())  # the weights were made there
    results, in_flight = [], []

    def unless(name: str, call, *args) -> None:
        if bug != name:
            call(*args)

    def collect() -> None:
        out = in_flight.pop(0)
        unless("output read before synchronise", ready[out].synchronize)
        results.append(host_out[out].clone())

    for step, batch in enumerate(batches):
        turn, out = step % sets, step % outputs
        if len(in_flight) == outputs:
            collect()
        unless("host buffer reused", loaded[turn].synchronize)
        host_in[turn].copy_(batch)
        with accelerator.stream(h2d):
            unless("device buffer overwritten", h2d.wait_event, computed[turn])
            device_in[turn].copy_(host_in[turn], non_blocking=True)
            loaded[turn].record()
        with accelerator.stream(compute):
            unless("compute does not wait for h2d", compute.wait_event, loaded[turn])
            compute.wait_event(copied[turn])
            torch.mm(device_in[turn], weights, out=device_out[turn])
            device_out[turn].tanh_()
            computed[turn].record()
        with accelerator.stream(d2h):
            unless("d2h does not wait for compute", d2h.wait_event, computed[turn])
            host_out[out].copy_(device_out[turn], non_blocking=True)
            copied[turn].record()
            ready[out].record()
        in_flight.append(out)
    while in_flight:
        collect()
    return torch.stack(results)
