"""Merged projections and compiled layers give the numbers of the model as it was loaded."""

import copy
import shutil

import pytest
import torch
from torch import nn

from ch06_graphs import GraphForward
from tests.helpers import FAMILIES, tiny_model
from toolkit.errors import UserError
from toolkit.forward import Sizes
from toolkit.models.compiled import compile_forward
from toolkit.models.merge import Fetch, Merged, merge_projections
from toolkit.models.supported import SUPPORTED
from toolkit.paged_attention import PagedBatch, PagedKVCache, attention_kernel_name, use_paged_attention

compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
DECODE, MIXED = [1, 1, 1, 1], [1, 1, 5, 7]


@pytest.fixture
def no_old_compilations():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def prepare(model, query_lengths):
    """A step over a cache of random numbers, as a function that only queues it: logits of every token."""
    rows, block = len(query_lengths), 64
    generator = torch.Generator().manual_seed(0)
    device = model.device
    cache = PagedKVCache.allocate(model, rows, block)
    cache.storage.copy_(torch.randn(cache.storage.shape, generator=generator))
    seq_lens = [length + row for row, length in enumerate(query_lengths)]
    positions = [range(kv - length, kv) for length, kv in zip(query_lengths, seq_lens, strict=True)]
    batch = PagedBatch(
        cache=cache,
        block_table=torch.arange(rows, dtype=torch.int32, device=device)[:, None],
        slot_mapping=torch.tensor([row * block + p for row, each in enumerate(positions) for p in each], device=device),
        query_start_loc=torch.tensor([0, *query_lengths], device=device).cumsum(0).int(),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        num_decode_rows=query_lengths.count(1),
        max_query_length=max(query_lengths),
    )
    ids = torch.randint(0, 90, (1, sum(query_lengths)), generator=generator).to(device)
    position_ids = torch.tensor([[p for each in positions for p in each]], device=device)

    @torch.no_grad()
    def step():
        return model(input_ids=ids, position_ids=position_ids, use_cache=False, paged=batch).logits[0]

    return step


@torch.no_grad()
def difference(seen, expected):
    return float((seen.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("family", [*FAMILIES, *(name for name in SUPPORTED if name not in FAMILIES)])
def test_merged_gives_the_same(family, monkeypatch):
    """Logits up to rounding and the same greedy tokens, with the library's own attention, for every architecture."""
    monkeypatch.setitem(FAMILIES, family, FAMILIES.get(family, {"pad_token_id": 0}))
    model = tiny_model(family)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()  # the library starts with zeros, which could be dropped unseen
    merged = copy.deepcopy(model)
    merge_projections(merged)
    ids = torch.randint(3, 90, (2, 9))
    error = difference(merged(ids).logits, model(ids).logits)
    assert error < 1e-5, f"{family}: logits of the merged model differ by {error:.1e}"
    tokens = [m.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None).tolist() for m in (model, merged)]
    assert tokens[0] == tokens[1], f"{family}: greedy tokens of the merged model differ"


def test_merged_holds_no_weight_twice():
    """The same number of weights as before, and nothing of a step left over, so no graph's pool is kept in use."""
    model = tiny_model("qwen2")
    before = sum(p.numel() for p in model.parameters())
    merge_projections(model)
    merge_projections(model)  # a second time changes nothing
    assert sum(p.numel() for p in model.parameters()) == before
    assert not any(isinstance(module, nn.Linear) and module.out_features == 128 for module in model.modules())
    model(torch.tensor([[5, 6]]))
    waiting = [module.waiting for module in model.modules() if isinstance(module, Merged)]
    assert len(waiting) == 4 and not any(waiting), f"parts are left over: {waiting}"
    assert sum(isinstance(module, Fetch) for module in model.modules()) == 6


def test_what_cannot_be_merged_is_refused():
    model = tiny_model()
    model.config.model_type = "gpt2"
    with pytest.raises(UserError, match="'gpt2' model cannot be merged; known are: llama"):
        merge_projections(model)
    model = tiny_model()
    model.model.layers[1].mlp.up_proj = nn.Identity()
    with pytest.raises(UserError, match="layer 1: only linear layers.*up_proj is a Identity"):
        merge_projections(model)


@compiler
@pytest.mark.parametrize(
    ("merge", "backend"),
    [
        (True, "aot_eager"),
        pytest.param(False, "aot_eager", marks=pytest.mark.long),
        pytest.param(True, "inductor", marks=pytest.mark.long),
    ],
)
def test_compiled_gives_the_same(merge, backend, no_old_compilations):
    """Decode steps and mixed steps of several sizes, on the CPU."""
    model = tiny_model("qwen3")
    use_paged_attention(model)
    steps = [DECODE, [1], MIXED, DECODE[:3]]
    expected = [prepare(model, lengths)() for lengths in steps]
    if merge:
        merge_projections(model)
    undo = compile_forward(model, backend)
    for lengths, before in zip(steps, expected, strict=True):
        error = difference(prepare(model, lengths)(), before)
        assert error < 1e-5, f"{lengths} query tokens: logits of the compiled model differ by {error:.1e}"
    undo()
    assert not any("forward" in vars(module) for module in model.modules()), "undo has left something compiled"


@pytest.mark.long
def test_layers_and_sizes_share_compilations(no_old_compilations):
    """Neither another layer nor another number of tokens compiles again (one token does: it is a case of its own)."""
    compilations = []

    def count(graph, inputs):
        compilations.append(graph)
        return graph.forward

    model = tiny_model()
    model.model.layers.extend(copy.deepcopy(list(model.model.layers)))
    for number, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = number
        layer.self_attn.config = model.config
    model.config.num_hidden_layers = len(model.model.layers)
    model.config.layer_types = ["full_attention"] * len(model.model.layers)
    use_paged_attention(model)
    compile_forward(model, backend=count)
    with torch._dynamo.config.patch(error_on_recompile=False, fail_on_recompile_limit_hit=True):
        prepare(model, DECODE[:3])()
        first = len(compilations)
        for lengths in ([1, 1], DECODE, MIXED, [1] * 9, [40]):
            prepare(model, lengths)()
        others = len(compilations) - first
    assert first <= 6, f"{first} pieces were compiled for four equal layers: they do not share them"
    assert others == 0, f"{others} further pieces were compiled for other numbers of tokens"


@pytest.mark.gpu
@pytest.mark.parametrize("merge", [False, True])
def test_compiled_in_a_graph(merge, no_old_compilations):
    """Captured by chapter 6's GraphForward and replayed: the logits of the model as it was loaded, in bfloat16."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=3,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=96,
        initializer_range=0.1,
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    use_paged_attention(model)
    steps = {rows: prepare(model, [1] * rows) for rows in (8, 1)}  # 8 tokens, and 8 heads
    expected = {rows: step() for rows, step in steps.items()}
    if merge:
        merge_projections(model)
    compile_forward(model)
    forward = GraphForward(lambda inputs, storage, sizes: steps[sizes.rows](), torch.zeros(1, device="cuda"))
    name = attention_kernel_name(torch.zeros(1, 64, dtype=torch.bfloat16, device="cuda"))
    for rows, before in expected.items():
        output = torch.zeros_like(before)
        sizes = Sizes(rows, rows, rows, 1, num_decode_rows=rows, max_query_length=1, greedy=True)
        graph = forward.capture({}, output, sizes)
        output.zero_()
        graph.replay()
        error = difference(output, before)
        assert error < 5e-2, f"{rows} rows, {name}: logits of the replay differ by {error:.1e}"
