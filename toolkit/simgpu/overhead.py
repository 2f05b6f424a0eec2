"""What the simulator costs: `python -m toolkit.simgpu.overhead` measures it on this machine, in wall-clock time.

The numbers say how long a lesson or a test takes. They say nothing about a GPU.
"""

import copy
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from toolkit import simgpu

# Named, as everywhere: torch's default dtype and device are the caller's.
ON_HOST: Any = {"dtype": torch.float32, "device": "cpu"}
ON_DEVICE: Any = {"dtype": torch.float32, "device": "sim"}

POLICIES = ("eager", "lazy", "random:0", "threads")


def _milliseconds(call: Callable[[], object], repeat: int = 5) -> float:
    """The fastest of some runs, after one to warm up."""
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def per_operation(policy: str, count: int = 300) -> float:
    """Microseconds for one small in-place operation, launched and run."""
    simgpu.reset(policy)
    x = torch.zeros(16, **ON_DEVICE)

    def run() -> None:
        for _ in range(count):
            x.add_(1)
        simgpu.synchronize()

    return _milliseconds(run) * 1e3 / count


def pipeline_step(policy: str, steps: int = 100) -> float:
    """Microseconds for one step over three streams: two host touches, two copies, a forward, five events, two waits."""
    simgpu.reset(policy)
    streams = h2d, compute, d2h = [simgpu.Stream(name=name) for name in ("h2d", "compute", "d2h")]
    host_in, host_out = torch.zeros(32, **ON_HOST, pin_memory=True), torch.zeros(32, **ON_HOST, pin_memory=True)
    x, y = torch.zeros(32, **ON_DEVICE), torch.zeros(32, **ON_DEVICE)
    for stream in streams:
        stream.wait_stream(simgpu.current_stream())
    new = torch.ones(32, **ON_HOST)

    def run() -> None:
        for _ in range(steps):
            host_in.copy_(new)
            with simgpu.stream(h2d):
                x.copy_(host_in, non_blocking=True)
                loaded = h2d.record_event()
            with simgpu.stream(compute):
                compute.wait_event(loaded)
                simgpu.launch("forward", lambda source, target: target.copy_(source), [x], [y])
                computed = compute.record_event()
            with simgpu.stream(d2h):
                d2h.wait_event(computed)
                host_out.copy_(y, non_blocking=True)
                copied = d2h.record_event()
            copied.synchronize()
            host_out.tolist()

    return _milliseconds(run) * 1e3 / steps


def forward_passes() -> dict[str, float]:
    """Milliseconds for one forward of a small Llama, 32 rows: on the CPU, operation by operation, and in one launch."""
    simgpu.reset()
    config = LlamaConfig(
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        vocab_size=1000,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(1, 1000, (32, 8), dtype=torch.int64, device="cpu")
    on_device = copy.deepcopy(model).to("sim")
    plain = simgpu.plain_module(on_device)
    source, target = ids.to("sim"), torch.empty(32, 8, 1000, **ON_DEVICE)

    def forward(ids: torch.Tensor, logits: torch.Tensor) -> None:
        logits.copy_(plain(ids, use_cache=False).logits)

    def in_a_box() -> None:
        simgpu.launch("forward", forward, [source], [target])
        simgpu.synchronize()

    with torch.inference_mode():
        before = len(simgpu.spans())
        on_device(source, use_cache=False)
        count = len(simgpu.spans()) - before
        return {
            "plain CPU": _milliseconds(lambda: model(ids, use_cache=False)),
            f"simulated, {count} operations": _milliseconds(lambda: on_device(source, use_cache=False).logits.cpu()),
            "simulated, in one launch": _milliseconds(in_a_box),
        }


def overlap() -> dict[str, float]:
    """Milliseconds for 20 steps of host work (some ms of Python) beside device work (one matrix product)."""
    weights = torch.randn(900, 900, **ON_HOST)

    def steps() -> None:
        x, y = torch.zeros(900, 900, **ON_DEVICE), torch.zeros(900, 900, **ON_DEVICE)
        for _ in range(20):
            simgpu.launch("forward", lambda x, y: torch.mm(weights, weights, out=y), [x], [y])
            for _ in range(600_000):
                pass
        simgpu.synchronize()

    times = {}
    for policy in ("eager", "threads"):
        simgpu.reset(policy)
        times[policy] = _milliseconds(steps, repeat=3)
    return times


def main() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads of work, the host's and the device's, on two cores
    print(f"{'policy':10} {'one operation':>15} {'one pipeline step':>19}")
    for policy in POLICIES:
        print(f"{policy:10} {per_operation(policy):12.0f} µs {pipeline_step(policy):16.0f} µs")
    for name, ms in forward_passes().items():
        print(f"forward, {name}: {ms:.1f} ms")
    for policy, ms in overlap().items():
        print(f"host beside device work, {policy}: {ms:.0f} ms")
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
