"""The fused decoder layers give what the library's model gives, over the paged cache, for steps of few tokens.

They need an NVIDIA GPU of compute capability 9.0. Where Triton is installed, they also run without one, in Triton's
interpreter (float16 only):

    TRITON_INTERPRET=1 python -m pytest tests/toolkit/test_fused.py
"""

import copy
import os
import time

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from tests.helpers import tiny_model
from toolkit.captures import clean_capture
from toolkit.models import fused
from toolkit.models.compiled import compile_forward
from toolkit.models.merge import merge_projections
from toolkit.paged_attention import PagedBatch, PagedKVCache, use_paged_attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE, DTYPE = ("cpu", torch.float16) if INTERPRETED else ("cuda", torch.bfloat16)
kernels = pytest.mark.filterwarnings("ignore:divide by zero") if INTERPRETED else pytest.mark.gpu
BLOCK = 16

SHAPES = {  # hidden, intermediate, heads, kv heads, head_dim
    "groups of 3": (192, 320, 6, 2, 64),  # columns that are no multiple of 128
    "wide heads": (256, 512, 4, 1, 128),
    "split sums": (1024, 1088, 2, 2, 64),
}


def new_model(shape, dtype=DTYPE):
    hidden, intermediate, heads, kv_heads, head_dim = SHAPES[shape]
    config = AutoConfig.for_model(
        "llama",
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=96,
        initializer_range=hidden**-0.5,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)  # the library starts with ones, which could be left out unseen
    return model.to(DEVICE)


class Step:
    """A step over a cache of random numbers, the same for every model: logits of all tokens, and the cache after it."""

    def __init__(self, model, query_lengths, pasts, seed):
        self.generator = torch.Generator().manual_seed(seed)
        config = model.config
        self.kv_shape = (config.num_hidden_layers, config.num_key_value_heads, config.head_dim)
        self.lengths = [query + past for query, past in zip(query_lengths, pasts, strict=True)]
        rows, width = len(query_lengths), max(self.lengths) // BLOCK + 2
        table = torch.randperm(rows * width, generator=self.generator, dtype=torch.int32).view(rows, width)
        positions = [range(past, length) for past, length in zip(pasts, self.lengths, strict=True)]
        slots = [int(table[r, p // BLOCK]) * BLOCK + p % BLOCK for r, each in enumerate(positions) for p in each]
        layers, kv_heads, head_dim = self.kv_shape
        shape = (2, layers, rows * width, BLOCK, kv_heads, head_dim)
        self.before = torch.randn(shape, generator=self.generator).to(DTYPE).to(DEVICE)
        self.ids = torch.randint(0, 96, (1, sum(query_lengths)), generator=self.generator).to(DEVICE)
        self.position_ids = torch.tensor([[p for each in positions for p in each]], device=DEVICE)
        self.batch = {
            "block_table": table.to(DEVICE),
            "slot_mapping": torch.tensor(slots, device=DEVICE),
            "query_start_loc": torch.tensor([0, *query_lengths], device=DEVICE).cumsum(0).int(),
            "seq_lens": torch.tensor(self.lengths, dtype=torch.int32, device=DEVICE),
            "num_decode_rows": rows if set(query_lengths) == {1} else 0,
            "max_query_length": max(query_lengths),
        }

    @torch.no_grad()
    def run(self, model, cache=None):
        cache = cache or PagedKVCache(self.before.to(model.dtype))
        paged = PagedBatch(cache, **self.batch)
        out = model(input_ids=self.ids, position_ids=self.position_ids, use_cache=False, paged=paged)
        return out.logits[0].double(), cache.storage.double()


def error(seen, expected):
    return float((seen - expected).norm() / expected.norm())


@kernels
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("step", ["decode", "one row", "mixed", "many rows"])
def test_equals_the_library(shape, step):
    """Logits and cache are as near to float32's as those of the library's own layers in this dtype, or nearer."""
    query_lengths, pasts = {
        "decode": ([1] * 4, [0, 5, 200, 37]),
        "one row": ([1], [300]),
        "mixed": ([5, 1, 30], [0, 5, 40]),
        "many rows": ([1] * 40, [3 * row for row in range(40)]),
    }[step]
    seed = time.time_ns() % 2**31
    model = new_model(shape)
    exact = copy.deepcopy(model).float()
    for each in (model, exact):
        use_paged_attention(each)
    step = Step(model, query_lengths, pasts, seed)
    logits, cache = step.run(exact)
    library = [error(seen, expected) for seen, expected in zip(step.run(model), (logits, cache), strict=True)]
    merge_projections(model)
    undo = fused.fuse(model)
    seen = step.run(model)
    for what, mine, expected, theirs in zip(("logits", "cache"), seen, (logits, cache), library, strict=True):
        assert mine.isfinite().all(), f"{what}: there are numbers that were never written (seed {seed})"
        assert error(mine, expected) < 1.3 * theirs + 1e-4, (
            f"{what}: relative error {error(mine, expected):.1e}, the library's {theirs:.1e} (seed {seed})"
        )
    again = step.run(model)
    assert torch.equal(again[0], seen[0]) and torch.equal(again[1], seen[1]), "the same step gave something else"
    undo()
    assert "forward" not in vars(model.get_decoder())


@pytest.mark.gpu
def test_a_graph_follows_its_inputs():
    """Captured once, replayed for other lengths and tokens; with early starts, and so often that a race would show."""
    model = new_model("groups of 3")
    use_paged_attention(model)
    merge_projections(model)
    compile_forward(model)
    steps = [Step(model, [1] * 8, [past + row for row in range(8)], seed=past) for past in (600, 0, 90)]
    static = copy.deepcopy(steps[0])
    cache = PagedKVCache(static.before.clone())
    static.run(model, cache)
    graph = torch.cuda.CUDAGraph()
    with clean_capture() as pool, torch.cuda.graph(graph, pool=pool):
        logits, _ = static.run(model, cache)
    expected = [step.run(model) for step in steps]
    for _ in range(20):
        for step, (expected_logits, expected_cache) in zip(steps, expected, strict=True):
            blocks = step.before.shape[2]
            cache.storage[:, :, :blocks] = step.before
            static.ids.copy_(step.ids)
            static.position_ids.copy_(step.position_ids)
            for name in ("slot_mapping", "seq_lens"):
                static.batch[name].copy_(step.batch[name])
            static.batch["block_table"][:, : step.batch["block_table"].shape[1]] = step.batch["block_table"]
            graph.replay()
            assert torch.equal(logits, expected_logits)
            assert torch.equal(cache.storage[:, :, :blocks].double(), expected_cache)


@pytest.mark.gpu
def test_it_is_chosen_by_itself():
    """compile_forward fuses a merged model of the Llama kind, once, and undoes it; no other one."""
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this GPU is older than compute capability 9.0")
    model = new_model("groups of 3")
    assert not fused.fits(model), "its projections are not merged"
    merge_projections(model)
    assert fused.fits(model)
    undo = compile_forward(model)
    forward = model.get_decoder().forward
    compile_forward(model)
    assert model.get_decoder().forward == forward, "what is fused was fused again"
    undo()
    assert "forward" not in vars(model.get_decoder())
    model.model.layers[1].mlp.down_proj = nn.Linear(320, 192, bias=True, device=DEVICE, dtype=DTYPE)
    assert not fused.fits(model), "a bias would be left out"
    odd = new_model("groups of 3", torch.float32)
    merge_projections(odd)
    assert not fused.fits(odd), "the kernels don't compute in float32"


def test_the_cpu_has_the_library():
    model = tiny_model()
    merge_projections(model)
    assert not fused.fits(model)


@pytest.mark.parametrize("tokens", [fused.FEW_TOKENS, fused.FEW_TOKENS + 1])
def test_who_runs_a_step(monkeypatch, tokens):
    """Few tokens over the paged cache run fused; more, and what has no paged cache, run in the library's forward."""
    model = tiny_model()
    calls = []

    class Noted:
        def __init__(self, model, ids, positions, paged):
            calls.append("fused")
            self.hidden = torch.zeros(len(ids), 64)

        def run(self):
            return self.hidden

    monkeypatch.setattr(fused, "FewTokens", Noted)
    use_paged_attention(model)
    undo = fused.fuse(model)
    lengths = torch.tensor([tokens], dtype=torch.int32)
    cache = PagedKVCache.allocate(model, 1, 128)
    starts = torch.tensor([0, tokens], dtype=torch.int32)
    paged = PagedBatch(cache, torch.zeros(1, 1, dtype=torch.int32), torch.arange(tokens), starts, lengths, 0, tokens)
    ids = torch.full((1, tokens), 7)
    with torch.no_grad():
        model(input_ids=ids, position_ids=torch.arange(tokens)[None], use_cache=False, paged=paged)
    written = bool(cache.storage.any())
    assert (calls == ["fused"]) == (tokens <= fused.FEW_TOKENS) and written == (tokens > fused.FEW_TOKENS)
    undo()
