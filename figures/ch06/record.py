"""Chapter 6's measurements: graphs against single launches, what memory they hold, and steps of both kinds.

On the simulated GPU the model's operations are launched and recorded one by one. The tiny model has about 140 of them
where a large one has more than a thousand, so each is declared to take many times as long (`large_model_costs`): about
8 ms for a forward, and more than that for its launches. Memory there is what the simulated allocator counts, for the
tiny model.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from figures.accelerated import clock, in_turns, ms_per_step, numbers, open_load, recorded_on
from solutions.ch00_measuring.timing import measure
from toolkit import device
from toolkit.commands.decoding import Load, Served, serve
from toolkit.course import use
from toolkit.forward import Sizes, Tensors
from toolkit.garbage import release_memory
from toolkit.recordings import Row
from toolkit.timeline import NO_TIMELINE

__all__ = ["large_model_costs", "record", "recorded_on"]

POOLS = ("a pool for each graph", "a pool for each set", "one pool")


def large_model_costs() -> Any:  # noqa: ANN401 (simgpu.Costs; None on a GPU)
    """Prices with which the tiny model's forward takes about as long as a large one's. Declared, not measured."""
    if not device.is_simulated():
        return None
    return device.accelerator.Costs(kernel_ms=0.060, launch_ms=0.100)


def record(chosen: torch.device) -> dict[str, list[Row]]:
    use("solutions")
    load = open_load()
    served = serve_engines(load)
    return {
        "ch06_engines": [{"engine": name, **numbers(each)} for name, each in served.items()],
        "ch06_steps": list(served["graphs in buckets"].recording.rows()),
        "ch06_eager_steps": list(served["operation by operation"].recording.rows()),
        "ch06_forward": forward(load),
        "ch06_memory": memory(load),
    }


def eager_engine() -> Callable[..., Any]:
    """Chapter 6's engine, its forward launched operation by operation."""
    from ch06_graphs import GraphForward
    from ch08_full_engine.museum.build import graph_engine

    class EagerForward(GraphForward):
        def launch(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> None:
            self.step(inputs, output, sizes)

    return partial(graph_engine, forward=EagerForward)


def pooled_forward(pools: str, step: Callable[[Tensors, Tensor, Sizes], Tensor], storage: Tensor) -> Any:  # noqa: ANN401
    """Chapter 6's forward with other pools (one of POOLS)."""
    from ch06_graphs import GraphForward

    class PooledForward(GraphForward):
        def capture_all(self, inputs: Tensors, output: Tensor, full: Sizes) -> None:
            if pools == "a pool for each set":
                self.pool = device.accelerator.graph_pool_handle()
            super().capture_all(inputs, output, full)

        def capture(self, inputs: Tensors, output: Tensor, sizes: Sizes) -> Any:  # noqa: ANN401 (a graph)
            if pools == "a pool for each graph":
                self.pool = device.accelerator.graph_pool_handle()
            return super().capture(inputs, output, sizes)

    return PooledForward(step, storage)


def held() -> tuple[int, int | None]:
    """Bytes that the allocator holds, and bytes of the device that are in use at all (None where it is simulated)."""
    device.accelerator.synchronize()
    release_memory()
    if device.is_simulated():
        return device.accelerator.memory_reserved(), None
    free, total = torch.cuda.mem_get_info()
    return torch.cuda.memory_reserved(), total - free


def make_workspace(stream: Any) -> None:  # noqa: ANN401 (a stream of either accelerator)
    """Let cuBLAS allocate what it keeps for each stream, 32 MiB on an H100: the stream has it, and not the graphs.

    CUDA's streams come from a small pool, so without this some engines would find it there and others make it.
    """
    if not device.is_simulated():
        with device.accelerator.stream(stream):
            torch.ones(16, 16, device=device.DEVICE) @ torch.ones(16, 16, device=device.DEVICE)


def memory(load: Load) -> list[Row]:
    """What the graphs of one and of two IO buffers hold, by how their pools are shared; and how long the set-up takes.

    Of the engine there is what has memory on the device. The buffers' own tensors are part of what is counted; they are
    some kilobytes.
    """
    from ch02_continuous_batching import Entrance, Observers
    from ch03_streams import BufferSizes, IOBuffers, allocate_cache, model_step, padding
    from ch04_events import EventExecutor
    from ch05_double_buffering import BufferRing
    from ch06_graphs import on_accelerator
    from ch06_graphs.build import build

    if not device.is_simulated():
        build(load.model, **load.limits)  # kernels and workspaces are there before it counts
    rows: list[Row] = []
    for pools in POOLS:
        for sets in (1, 2):
            if device.is_simulated():
                device.accelerator.reset(on_race="collect")
            start = time.perf_counter()
            model, entrance = on_accelerator(load.model), Entrance.of(load.model, None, load.limits)
            forward = pooled_forward(pools, partial(model_step, model), allocate_cache(model, entrance.config))
            make_workspace(forward.capturing)
            without_graphs = held()
            pool = BufferRing([IOBuffers(padding(BufferSizes.of(entrance)), device.DEVICE) for _ in range(sets)])
            executor = EventExecutor(pool, forward, Observers(NO_TIMELINE))
            seconds = time.perf_counter() - start
            reserved, in_use = (
                None if after is None or before is None else after - before
                for after, before in zip(held(), without_graphs, strict=True)
            )
            rows.append(
                {
                    "pools": pools,
                    "sets": sets,
                    "graphs": len(forward.graphs),
                    "max_rows": load.requests,
                    "reserved_mb": round((reserved or 0) / 1e6, 3),
                    "in_use_mb": None if in_use is None else round(in_use / 1e6, 3),
                    "setup_s": None if device.is_simulated() else round(seconds, 3),
                    "clock": clock(),
                }
            )
            del executor, pool, forward, model
            held()
    return rows


def forward(load: Load) -> list[Row]:
    """A decode forward of each bucket, launched operation by operation and as a graph: host's time and device's."""
    from ch06_graphs import decode_step
    from ch06_graphs.build import build

    if device.is_simulated():
        device.accelerator.reset(on_race="collect", costs=large_model_costs())
    executor: Any = build(load.model, **load.limits).executor
    buffers, graphs = executor.pool.buffers[0], executor.forward
    rows: list[Row] = []
    for bucket in graphs.buckets:
        sizes = decode_step(buffers.full_decode, bucket, greedy=True)
        for name, queue in (("operation by operation", graphs.step), ("graph", graphs.launch)):
            launch = partial(queue, buffers.forward_inputs, buffers.device_ids, sizes)
            timing = measure(launch, device.accelerator, now=lambda: device.now_ms() / 1e3)
            rows.append(
                {
                    "forward": name,
                    "rows": bucket,
                    "host_ms": round(timing.host_ms, 4),
                    "device_ms": round(timing.device_ms, 4),
                    "clock": clock(),
                }
            )
    return rows


def serve_engines(load: Load) -> dict[str, Served]:
    """Eager launches against graphs in the same engine; on a GPU chapter 5's, whose graph has one size, beside them."""
    from ch05_double_buffering.build import build as build_double_buffering
    from ch06_graphs.build import build

    choices: dict[str, Callable[..., Any]] = {"operation by operation": eager_engine(), "graphs in buckets": build}
    if not device.is_simulated():
        choices["one graph of the full size (chapter 5)"] = build_double_buffering
        serve(build, load)  # warm-up
    runs = {name: partial(serve, choice, load, costs=large_model_costs()) for name, choice in choices.items()}
    return in_turns(runs, ms_per_step)
