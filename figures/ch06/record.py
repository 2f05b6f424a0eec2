"""Chapter 6's measurements: graphs against single launches, the memory of one and two slots, and steps of both kinds.

On the simulated GPU the model's operations are launched and recorded one by one. The tiny model has 135 of them where
a large one has some 1,600, so each is declared to take twelve times as long (`large_model_costs`): about 8 ms for a
forward, and more than that for its launches. Memory there is what the simulated allocator counts, for the tiny model.
"""

import time
from functools import partial
from typing import Any

import torch

from figures.accelerated import clock, in_turns, ms_per_step, numbers, open_load, recorded_on
from solutions.ch00_measuring.timing import measure
from toolkit import device
from toolkit.commands.decoding import Load, Served, serve
from toolkit.course import use
from toolkit.garbage import release_memory
from toolkit.recordings import Row

__all__ = ["large_model_costs", "record", "recorded_on"]

POOLS = ("a pool for each graph", "a pool for each slot", "one pool")


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


def eager_engine() -> type:
    """Chapter 6's engine, its forward launched operation by operation."""
    from ch03_streams.io_slot import sizes_of
    from ch06_graphs import GraphEngine

    class EagerEngine(GraphEngine):
        def run_forward(self, batch: Any, slot: Any) -> None:  # noqa: ANN401
            with self.timeline.device("forward", lane="compute", step=batch.step):
                self.box.step(self.inputs_of(slot), slot.device_ids, sizes_of(batch.inputs))

    return EagerEngine


def pooled_engine(pools: str, slots: int) -> type:
    """Chapter 6's engine with another number of slots or other pools (one of POOLS)."""
    from ch06_graphs import GraphEngine, GraphForward

    class PooledForward(GraphForward):
        def seal(self, inputs: Any, output: Any, full: Any) -> None:  # noqa: ANN401
            if pools == "a pool for each slot":
                self.pool = device.accelerator.graph_pool_handle()
            super().seal(inputs, output, full)

        def capture(self, inputs: Any, output: Any, sizes: Any) -> Any:  # noqa: ANN401
            if pools == "a pool for each graph":
                self.pool = device.accelerator.graph_pool_handle()
            return super().capture(inputs, output, sizes)

    class PooledEngine(GraphEngine):
        num_slots = slots

        def make_box(self, storage: Any) -> GraphForward:  # noqa: ANN401
            self.box_memory = held()
            return PooledForward(self.forward, storage)

    return PooledEngine


def held() -> tuple[int, int | None]:
    """Bytes that the allocator holds, and bytes of the device that are in use at all (None where it is simulated)."""
    device.accelerator.synchronize()
    release_memory()
    if device.is_simulated():
        return device.accelerator.memory_reserved(), None
    free, total = torch.cuda.mem_get_info()
    return torch.cuda.memory_reserved(), total - free


def memory(load: Load) -> list[Row]:
    """What the graphs of one and of two slots hold, by how their pools are shared; and how long the set-up takes.

    The slots' own tensors are part of it; they are some kilobytes.
    """
    from ch06_graphs import GraphEngine

    if not device.is_simulated():
        GraphEngine(load.model, **load.limits)  # type: ignore[arg-type] # kernels and workspaces are there before it counts
    rows: list[Row] = []
    for pools in POOLS:
        for slots in (1, 2):
            if device.is_simulated():
                device.accelerator.reset(on_race="collect")
            start = time.perf_counter()
            engine = pooled_engine(pools, slots)(load.model, **load.limits)
            seconds = time.perf_counter() - start
            reserved, in_use = (
                None if after is None or before is None else after - before
                for after, before in zip(held(), engine.box_memory, strict=True)
            )
            rows.append(
                {
                    "pools": pools,
                    "slots": slots,
                    "graphs": len(engine.box.graphs),
                    "max_rows": load.requests,
                    "reserved_mb": round((reserved or 0) / 1e6, 3),
                    "in_use_mb": None if in_use is None else round(in_use / 1e6, 3),
                    "setup_s": None if device.is_simulated() else round(seconds, 3),
                    "clock": clock(),
                }
            )
            del engine
            held()
    return rows


def forward(load: Load) -> list[Row]:
    """A decode forward of each bucket, launched operation by operation and as a graph: host's time and device's."""
    from ch06_graphs import GraphEngine, decode_step

    if device.is_simulated():
        device.accelerator.reset(on_race="collect", costs=large_model_costs())
    limits: dict[str, Any] = load.limits
    engine = GraphEngine(load.model, **limits)
    slot, box = engine.slots[0], engine.box
    rows: list[Row] = []
    for bucket in box.buckets:
        sizes = decode_step(slot.full_decode, bucket, greedy=True)
        for name, queue in (("operation by operation", box.step), ("graph", box.launch)):
            launch = partial(queue, engine.inputs_of(slot), slot.device_ids, sizes)
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
    """Eager launches against graphs in the same engine; on a GPU chapter 5's, whose box has one size, beside them."""
    from ch05_double_buffering import DoubleBufferedEngine
    from ch06_graphs import GraphEngine

    choices = {"operation by operation": eager_engine(), "graphs in buckets": GraphEngine}
    if not device.is_simulated():
        choices["one graph of the full size (chapter 5)"] = DoubleBufferedEngine
        serve(GraphEngine, load)  # warm-up
    runs = {name: partial(serve, engine, load, costs=large_model_costs()) for name, engine in choices.items()}
    return in_turns(runs, ms_per_step)
