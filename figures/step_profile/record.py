"""Where the time of a decode step goes, kernel by kernel: with compiled layers, and with fused ones.

Recorded on a GPU alone, for models of three sizes with merged projections. A step is a graph, as in the engines, the
choice of the next token included. First its replays are timed, in turns, then the kernels of some replays are read from
the profiler's trace.

Kernels that start early (toolkit/triton_early.py) overlap, and their durations would count time twice. So a kernel's
time here runs from the end of the one before, or its start where there is a gap, to its end.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel

from figures.roofline.record import copy_bandwidth, decode_inputs, kv_bytes, milliseconds, weight_bytes
from toolkit.course import use
from toolkit.errors import UserError
from toolkit.forward import Sizes
from toolkit.garbage import release_memory
from toolkit.models import load_model
from toolkit.models.compiled import compile_forward, compile_layers
from toolkit.models.merge import merge_projections
from toolkit.paged_attention import PagedKVCache, use_paged_attention
from toolkit.recordings import Row

CASES = {"8b": (32,), "1b": (32, 256), "135m": (32,)}  # rows
FORMS = {"compiled": compile_layers, "fused": compile_forward}
CONTEXTS = (128, 600, 1024)
PROFILED = 600  # tokens of each row in the cache
BLOCK_SIZE, WIDTH = 16, 128
ROUNDS, REPLAYS = 4, 10


def record(chosen: torch.device) -> dict[str, list[Row]]:
    if chosen.type != "cuda":
        raise UserError("the kernels of a step are measured on an NVIDIA GPU, and torch sees none here")
    use("solutions")
    bandwidth = copy_bandwidth()
    steps: list[Row] = []
    kernels: list[Row] = []
    for name, row_counts in CASES.items():
        model = load_model(name, device="cuda").model
        use_paged_attention(model)
        merge_projections(model)
        for rows in row_counts:
            case = StepCase(model, rows)
            head: dict[str, Any] = {"model": name, "rows": rows}
            steps += [{**head, **row, "copy_tb_per_s": round(bandwidth / 1e12, 3)} for row in case.times(bandwidth)]
            kernels += [{**head, "context": PROFILED, **row} for row in case.kernels()]
            print(*steps[-len(FORMS) * len(CONTEXTS) :], sep="\n", flush=True)
            del case
        del model
        release_memory()
    return {"step_times": steps, "step_profile": kernels}


class StepCase:
    """A decode step of one model and number of rows, captured in each form. The graphs share inputs and cache."""

    def __init__(self, model: PreTrainedModel, rows: int) -> None:
        from ch03_streams import model_step
        from ch06_graphs import GraphForward

        self.model, self.rows = model, rows
        self.cache = PagedKVCache.allocate(model, rows * WIDTH + 1, BLOCK_SIZE)
        self.cache.storage.normal_()
        self.inputs = {name: tensor.clone() for name, tensor in decode_inputs(PROFILED, rows, WIDTH).items()}
        self.output = torch.zeros(rows, dtype=torch.int64, device="cuda")
        forward = GraphForward(partial(model_step, model), self.cache.storage)
        sizes = Sizes(rows, rows, rows, WIDTH, num_decode_rows=rows, max_query_length=1, greedy=True)
        self.graphs: dict[str, Any] = {}
        for form, change in FORMS.items():
            undo = change(model)
            self.graphs[form] = forward.capture(self.inputs, self.output, sizes)
            undo()

    def fill(self, context: int) -> None:
        for name, tensor in decode_inputs(context, self.rows, WIDTH).items():
            self.inputs[name].copy_(tensor)

    def times(self, bandwidth: float) -> list[Row]:
        """Of every form at every context: the median of several rounds, in which the forms take turns."""
        found: list[Row] = []
        for context in CONTEXTS:
            self.fill(context)
            floor = (weight_bytes(self.model) + kv_bytes(self.cache, context, self.rows)) / bandwidth * 1e3
            seen: dict[str, list[float]] = defaultdict(list)
            for _ in range(ROUNDS):
                for form, graph in self.graphs.items():
                    seen[form].append(milliseconds(graph.replay))
            for form, values in seen.items():
                ms = median(values)
                numbers = {"ms": round(ms, 4), "floor_ms": round(floor, 4), "times_floor": round(ms / floor, 3)}
                found.append({"context": context, "form": form, **numbers})
        return found

    def kernels(self) -> list[Row]:
        self.fill(PROFILED)
        return [
            {"form": form, "kernel": name, "count": count, "us": round(us, 2)}
            for form, graph in self.graphs.items()
            for name, (count, us) in profile(graph.replay).items()
        ]


def profile(replay: Callable[[], None]) -> dict[str, tuple[int, float]]:
    """By name, how many kernels a replay has, and the microseconds that all of them take; gaps have a name too."""
    replay()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        for _ in range(REPLAYS):
            replay()
        torch.cuda.synchronize()
    events = sorted(
        (event.time_range.start, event.time_range.end, short(event.name))
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    each = len(events) // REPLAYS
    counts: dict[str, int] = defaultdict(int)
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(1, REPLAYS - 1):  # the first and the last are disturbed by the profiler itself
        mine = events[number * each : (number + 1) * each]
        spent: dict[str, float] = defaultdict(float)
        before = mine[0][0]
        for start, end, name in mine:
            spent["(gaps)"] += max(start - before, 0)
            spent[name] += max(end - max(start, before), 0)
            before = max(before, end)
        for name, us in spent.items():
            times[name].append(us)
    for _, _, name in events[each : 2 * each]:
        counts[name] += 1
    found = {name: (counts[name], median(values)) for name, values in times.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def short(name: str) -> str:
    """A kernel's name without return type, namespaces and what stands in brackets; all of cuBLAS's are one."""
    if name.startswith("nvjet") or "cublas" in name or "cutlass" in name:
        return "cuBLAS"
    return name.removeprefix("void ").split("<")[0].split("(")[0].split("::")[-1].strip() or name[:40]
