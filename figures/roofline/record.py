"""How near a decode step comes to its floor, the time that reading the weights and the KV cache takes.

Recorded on a GPU alone, with 32 rows of the 8b shape. First the attention by itself, at several contexts (tokens that
each row has in the cache); then the whole step, the choice of the next token included: launched kernel by kernel, as a
graph, and as a graph with merged projections (toolkit/models/merge.py) and with compiled layers
(toolkit/models/compiled.py).

One graph serves all contexts. Its block table is wide enough for the longest, as it would be in an engine.
"""

import time
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from solutions.ch00_measuring.timing import measure
from toolkit.captures import clean_capture
from toolkit.course import use
from toolkit.errors import UserError
from toolkit.forward import Sizes, Tensors
from toolkit.models import load_model
from toolkit.models.compiled import compile_forward
from toolkit.models.merge import merge_projections
from toolkit.paged_attention import (
    PagedBatch,
    PagedKVCache,
    attention_kernel_name,
    paged_attention,
    use_paged_attention,
)
from toolkit.recordings import Row

ROWS = 32
BLOCK_SIZE = 16
ATTENTION_CONTEXTS = (128, 1024, 4096, 8192)
STEP_CONTEXTS = (128, 1024, 4096, 8000)
WIDTH = 8192 // BLOCK_SIZE


def record(chosen: torch.device) -> dict[str, list[Row]]:
    if chosen.type != "cuda":
        raise UserError("the roofline is measured on an NVIDIA GPU, and torch sees none here")
    use("solutions")
    model = load_model("8b", device="cuda").model
    use_paged_attention(model)
    cache = PagedKVCache.allocate(model, ROWS * WIDTH + 1, BLOCK_SIZE)
    cache.storage.normal_()
    bandwidth = copy_bandwidth()
    return {
        "roofline_attention": attention(model, cache, bandwidth),
        "roofline_step": Steps(model, cache, bandwidth).record(),
    }


def copy_bandwidth() -> float:
    """Bytes per second that a large copy on the device reads and writes: what "full bandwidth" means here."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    return 2 * source.numel() / (milliseconds(lambda: target.copy_(source)) / 1e3)


def milliseconds(work: Any) -> float:  # noqa: ANN401 (anything that can be called)
    return measure(work, torch.cuda, warmup=3, repeats=15).device_ms


def decode_inputs(context: int, rows: int = ROWS, width: int = WIDTH) -> Tensors:
    """A decode step's tensors on the device: rows of `context` tokens, the new one included, in shuffled blocks."""
    table = torch.randperm(rows * width, dtype=torch.int32, device="cuda").view(rows, width)
    last = torch.full((rows,), context - 1, dtype=torch.int64, device="cuda")
    block = table[:, (context - 1) // BLOCK_SIZE].long()
    return {
        "input_ids": torch.randint(0, 1000, (rows,), dtype=torch.int64, device="cuda"),
        "position_ids": last,
        "slot_mapping": block * BLOCK_SIZE + (context - 1) % BLOCK_SIZE,
        "query_start_loc": torch.arange(rows + 1, dtype=torch.int32, device="cuda"),
        "seq_lens": (last + 1).int(),
        "block_table": table,
        "logits_indices": torch.arange(rows, dtype=torch.int64, device="cuda"),
        "temperature": torch.zeros(rows, dtype=torch.float32, device="cuda"),
        "top_k": torch.zeros(rows, dtype=torch.int64, device="cuda"),
        "top_p": torch.ones(rows, dtype=torch.float32, device="cuda"),
        "uniform": torch.zeros(rows, dtype=torch.float32, device="cuda"),
    }


def kv_bytes(cache: PagedKVCache, context: int, rows: int = ROWS) -> int:
    """Bytes of the keys and values of `context` tokens in every row and layer."""
    _, layers, _, _, kv_heads, head_dim = cache.storage.shape
    return 2 * layers * rows * context * kv_heads * head_dim * cache.storage.element_size()


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights that a step reads."""
    head = model.get_output_embeddings().weight
    looked_up = 0 if head is model.get_input_embeddings().weight else head.numel()  # rows of a table, not the table
    return (sum(p.numel() for p in model.parameters()) - looked_up) * head.element_size()


def attention(model: PreTrainedModel, cache: PagedKVCache, bandwidth: float) -> list[Row]:
    """One layer's attention. A graph of all layers' is timed, since one layer's keys might stay in the GPU's cache."""
    config = model.config
    inputs = decode_inputs(max(ATTENTION_CONTEXTS))
    batch = PagedBatch(
        cache,
        inputs["block_table"],
        inputs["slot_mapping"],
        inputs["query_start_loc"],
        inputs["seq_lens"],
        num_decode_rows=ROWS,
        max_query_length=1,
    )
    query = torch.randn(ROWS, config.num_attention_heads, config.head_dim, device="cuda", dtype=model.dtype)
    layers = list(zip(cache.keys, cache.values, strict=True))

    def all_layers() -> None:
        for keys, values in layers:
            paged_attention(query, keys, values, batch, config.head_dim**-0.5)

    all_layers()
    graph = torch.cuda.CUDAGraph()
    with clean_capture() as pool, torch.cuda.graph(graph, pool=pool):
        all_layers()
    rows: list[Row] = []
    for context in ATTENTION_CONTEXTS:
        inputs["seq_lens"].fill_(context)
        ms = milliseconds(graph.replay) / len(layers)
        floor = kv_bytes(cache, context) / len(layers) / bandwidth * 1e3
        rows.append({"context": context, **numbers(cache, ms, floor, bandwidth)})
        print(rows[-1], flush=True)
    return rows


class Steps:
    """The whole decode step, measured in five forms of the same model."""

    def __init__(self, model: PreTrainedModel, cache: PagedKVCache, bandwidth: float) -> None:
        from ch03_streams import model_step
        from ch06_graphs import GraphForward

        self.model, self.cache, self.bandwidth = model, cache, bandwidth
        self.forward = GraphForward(partial(model_step, model), cache.storage)
        self.inputs = {name: tensor.clone() for name, tensor in decode_inputs(STEP_CONTEXTS[0]).items()}
        self.output = torch.zeros(ROWS, dtype=torch.int64, device="cuda")
        self.sizes = Sizes(ROWS, ROWS, ROWS, WIDTH, num_decode_rows=ROWS, max_query_length=1, greedy=True)
        self.weight_bytes = weight_bytes(model)

    def record(self) -> list[Row]:
        step = partial(self.forward.step, self.inputs, self.output, self.sizes)
        rows = self.at_all_contexts("operation by operation", step, None)
        rows += self.as_graph("graph")
        undo = compile_forward(self.model)
        rows += self.as_graph("compiled, graph")
        undo()
        merge_projections(self.model)
        rows += self.as_graph("merged, graph")
        compile_forward(self.model)
        rows += self.as_graph("merged, compiled, graph")
        return rows

    def as_graph(self, form: str) -> list[Row]:
        """Capture the step (which compiles it first, where that is asked for) and measure its replays."""
        start = time.perf_counter()
        graph = self.forward.capture(self.inputs, self.output, self.sizes)
        torch.cuda.synchronize()
        return self.at_all_contexts(form, graph.replay, time.perf_counter() - start)

    def at_all_contexts(self, form: str, step: Any, capture_s: float | None) -> list[Row]:  # noqa: ANN401
        rows: list[Row] = []
        for context in STEP_CONTEXTS:
            for name, tensor in decode_inputs(context).items():
                self.inputs[name].copy_(tensor)
            floor = (self.weight_bytes + kv_bytes(self.cache, context)) / self.bandwidth * 1e3
            measured = numbers(self.cache, milliseconds(step), floor, self.bandwidth)
            seconds = None if capture_s is None else round(capture_s, 2)
            rows.append({"form": form, "context": context, **measured, "capture_s": seconds})
            print(rows[-1], flush=True)
        return rows


def numbers(cache: PagedKVCache, ms: float, floor_ms: float, bandwidth: float) -> dict[str, Any]:
    """The columns that both recordings share."""
    return {
        "rows": ROWS,
        "block_size": BLOCK_SIZE,
        "attention": attention_kernel_name(cache.storage),
        "ms": round(ms, 4),
        "floor_ms": round(floor_ms, 4),
        "times_floor": round(ms / floor_ms, 3),
        "copy_tb_per_s": round(bandwidth / 1e12, 3),
    }
