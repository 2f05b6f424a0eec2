"""The Triton kernels against attention computed in float64, on fresh random inputs at every run.

They need an NVIDIA GPU. Where Triton is installed, they also run without one, in Triton's interpreter (float16 only):

    TRITON_INTERPRET=1 python -m pytest tests/toolkit/test_triton_attention.py
"""

import os
import time

import pytest
import torch

from toolkit import triton_attention
from toolkit.captures import clean_capture
from toolkit.paged_attention import PagedBatch, PagedKVCache, attention_kernel_name, paged_attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
kernels = pytest.mark.filterwarnings("ignore:divide by zero") if INTERPRETED else pytest.mark.gpu
LONGEST = 150 if INTERPRETED else 1000
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2}  # relative, of the whole result
EMPTY = torch.empty


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """What the launcher allocates is full of NaN, so that an element which no program writes is seen."""
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: EMPTY(*args, **kwargs).fill_(float("nan")))


class Case:
    """Rows over shuffled blocks of a cache in which everything that no row has written is NaN."""

    def __init__(
        self,
        query_lengths,
        seq_lens,
        *,
        heads=(8, 2),
        head_dim=64,
        block_size=16,
        dtype=torch.float16,
        decode_rows=0,
        spare_width=5,
        spare_rows=0,
        spare_tokens=0,
        seed=None,
    ):
        self.seed = time.time_ns() % 2**31 if seed is None else seed
        generator = torch.Generator().manual_seed(self.seed)
        self.query_lengths, self.seq_lens = list(query_lengths), list(seq_lens)
        self.scale = head_dim**-0.5
        heads, kv_heads = heads
        owned = [-(-length // block_size) for length in seq_lens]
        blocks = torch.randperm(sum(owned) + 1, generator=generator, dtype=torch.int32)
        storage = torch.full((2, 1, len(blocks), block_size, kv_heads, head_dim), float("nan"), dtype=dtype)
        rows = len(seq_lens) + spare_rows
        table = torch.full((rows, max(owned) + spare_width), int(blocks[-1]), dtype=torch.int32)
        self.keys_values = []
        for row, (mine, length) in enumerate(zip(blocks.split([*owned, 1]), seq_lens, strict=False)):
            table[row, : len(mine)] = mine
            new = torch.randn(2, length, kv_heads, head_dim, generator=generator).to(dtype)
            position = torch.arange(length)
            storage[:, 0, mine.long()[position // block_size], position % block_size] = new
            self.keys_values.append(new.double())
        starts = torch.tensor([0, *query_lengths, *[0] * spare_rows]).cumsum(0).to(torch.int32)
        self.query = torch.randn(sum(query_lengths) + spare_tokens, heads, head_dim, generator=generator)
        self.query = self.query.to(DEVICE, dtype)
        self.batch = PagedBatch(
            cache=PagedKVCache(storage.to(DEVICE)),
            block_table=table.to(DEVICE),
            slot_mapping=torch.zeros(0, dtype=torch.int64, device=DEVICE),
            query_start_loc=starts.to(DEVICE),
            seq_lens=torch.tensor([*seq_lens, *[1] * spare_rows], dtype=torch.int32, device=DEVICE),
            num_decode_rows=decode_rows,
            max_query_length=self.query.shape[0],
        )

    def seen(self):
        cache = self.batch.cache
        return triton_attention.attention(self.query, cache.keys[0], cache.values[0], self.batch, self.scale)

    def expected(self):
        """(tokens, heads, head_dim) float64, zeros for the tokens of no row."""
        out = torch.zeros(self.query.shape, dtype=torch.float64)
        start = 0
        for length, (k, v) in zip(self.query_lengths, self.keys_values, strict=True):
            q = self.query[start : start + length].cpu().double().transpose(0, 1)
            k, v = (x.transpose(0, 1).repeat_interleave(q.shape[0] // x.shape[1], 0) for x in (k, v))
            future = torch.ones(length, k.shape[1], dtype=torch.bool).triu(k.shape[1] - length + 1)
            weights = (q @ k.transpose(1, 2) * self.scale).masked_fill(future, float("-inf")).softmax(-1)
            out[start : start + length] = (weights @ v).transpose(0, 1)
            start += length
        return out

    def check(self, seen=None, what="the kernels"):
        seen = (self.seen() if seen is None else seen).cpu().double()
        expected = self.expected()
        assert seen.isfinite().all(), (
            f"{what}: {int((~seen.isfinite()).sum())} elements are NaN or infinite: never written, or a key past a "
            f"row's length was used (seed {self.seed}, {self.query_lengths} tokens over {self.seq_lens})"
        )
        error = float((seen - expected).norm() / expected.norm())
        assert error < TOLERANCE[self.query.dtype], (
            f"{what}: relative error {error:.1e} (seed {self.seed}, {self.query_lengths} over {self.seq_lens})"
        )


def random_lengths(count):
    return torch.randint(1, LONGEST, (count,), generator=torch.Generator().manual_seed(time.time_ns() % 2**31)).tolist()


GEOMETRIES = [
    # heads, head_dim, block_size, dtype: every value of each, not every combination
    ((32, 8), 128, 16, torch.bfloat16),
    ((32, 8), 64, 32, torch.float16),
    ((32, 32), 64, 64, torch.bfloat16),
    ((8, 1), 128, 128, torch.float16),
    ((14, 2), 64, 256, torch.float16),  # 7 query heads share a KV head
    ((14, 2), 128, 16, torch.bfloat16),
    ((32, 8), 64, 24, torch.float16),  # blocks that are no power of two
]


@kernels
@pytest.mark.parametrize(("heads", "head_dim", "block_size", "dtype"), GEOMETRIES)
@pytest.mark.parametrize("step", ["decode", "decode rows, then chunks", "captured mixed step"])
def test_equals_float64(heads, head_dim, block_size, dtype, step):
    """Ragged rows of every kind of step give what plain attention in float64 gives."""
    if INTERPRETED and dtype == torch.bfloat16:
        pytest.skip("Triton's interpreter does not compute in bfloat16")
    form = {"heads": heads, "head_dim": head_dim, "block_size": block_size, "dtype": dtype}
    kv = random_lengths(6)
    if step == "decode":
        Case([1] * 6, kv, decode_rows=6, **form).check()
        return
    chunks = [1, 1, 1, min(kv[3], 70), kv[4], kv[5]]
    if step == "decode rows, then chunks":
        Case(chunks, kv, decode_rows=3, **form).check()
    else:
        chunks[4] = 0  # the row is there, but has no query token
        Case(chunks, kv, spare_rows=4, spare_tokens=37, **form).check()


@kernels
@pytest.mark.parametrize("processors", [1, 8, 132, 600])
@pytest.mark.parametrize("lengths", ["even", "one long", "short"])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_parts_of_rows(monkeypatch, processors, lengths, head_dim):
    """Rows that stay whole, and rows that several programs share, up to as many as a row can have parts."""
    monkeypatch.setattr(triton_attention, "num_processors", lambda device: processors)
    kv = {
        "even": [LONGEST] * 4,
        "one long": [1, 63, 64, 65, 2, 33, 9 * LONGEST // 8, 31],
        "short": [1, 2, 3],
    }[lengths]
    case = Case([1] * len(kv), kv, decode_rows=len(kv), head_dim=head_dim)
    case.check(what=f"{processors} processors")
    assert torch.equal(case.seen(), case.seen()), "the parts are not put together in a fixed order"


@kernels
def test_rows_share_blocks():
    """Two rows over the same first blocks, as prefix sharing has them."""
    case = Case([1, 1, 1], [100, 100, 40], decode_rows=3)
    case.batch.block_table[1] = case.batch.block_table[0]
    case.keys_values[1] = case.keys_values[0]
    case.check()


@kernels
def test_lengths_that_do_not_fit_stay_inside():
    """What another batch has left in the inputs gives wrong numbers, but no access outside the tensors (chapter 3)."""
    case = Case([1, 4, 9], [30, 20, 50], decode_rows=1, spare_width=0)
    case.batch.seq_lens.fill_(10**6)
    case.seen()
    case.batch.query_start_loc.copy_(torch.tensor([0, 7, 900, 10**6]))
    case.seen()
    if DEVICE == "cuda":
        torch.cuda.synchronize()


@kernels
def test_a_table_may_be_a_view():
    """The IO buffers' block table is wider than the batch's part of it; queries come transposed from the model."""
    case = Case([1, 5], [60, 33], decode_rows=1)
    wide = torch.cat([case.batch.block_table, torch.full_like(case.batch.block_table, 10**6)], dim=1)
    case.batch = PagedBatch(**{**vars(case.batch), "block_table": wide[:, : case.batch.block_table.shape[1]]})
    case.query = case.query.transpose(0, 1).contiguous().transpose(0, 1)
    case.check()


@kernels
def test_write_kv():
    """Keys and values go to their slots, from tensors that are parts of a larger one; nothing else is touched."""
    tokens, kv_heads, head_dim = 5, 3, 64
    keys, values = (torch.full((6, 16, kv_heads, head_dim), 7.0, dtype=torch.float16, device=DEVICE) for _ in range(2))
    merged = torch.randn(tokens, 4 * kv_heads * head_dim, device=DEVICE).half()
    new_keys = merged[:, kv_heads * head_dim : 2 * kv_heads * head_dim].view(tokens, kv_heads, head_dim)
    new_values = torch.randn(kv_heads, tokens, head_dim, device=DEVICE).half().transpose(0, 1)
    slots = torch.tensor([90, 3, 17, 64, 31], device=DEVICE)
    triton_attention.write_kv(keys, values, slots, new_keys, new_values)
    for name, cache, new in (("keys", keys, new_keys), ("values", values, new_values)):
        flat = cache.flatten(0, 1)
        assert torch.equal(flat[slots], new), f"the {name} at the slots are not those of the step"
        others = torch.ones(96, dtype=torch.bool, device=DEVICE)
        others[slots] = False
        assert (flat[others] == 7).all(), f"{name} outside the slots were written"


@pytest.mark.gpu
@pytest.mark.parametrize("decode_rows", [4, 0])
def test_a_graph_follows_lengths_and_row_starts(decode_rows):
    """Captured with one set of lengths and row starts, replayed with others: the capture fixes none of them."""
    if decode_rows:
        steps = [([1] * 4, kv) for kv in ([1, 1, 1, 1], [1000, 3, 77, 512], [5, 1200, 1, 64])]
    else:
        steps = [([60], [60]), ([1, 20, 1, 30], [700, 20, 9, 90]), ([1, 1, 1, 0], [1200, 40, 3, 8])]
    form = {"heads": (32, 8), "head_dim": 128, "dtype": torch.bfloat16, "decode_rows": decode_rows}
    cases = []
    for query_lengths, seq_lens in steps:
        width, rows, tokens = -(-max(seq_lens) // 16), len(query_lengths), sum(query_lengths)
        spare = {"spare_rows": 5 - rows, "spare_tokens": 60 - tokens} if not decode_rows else {}
        cases.append(Case(query_lengths, seq_lens, spare_width=80 - width, **spare, **form))
    static = cases[0]
    blocks = max(case.batch.cache.storage.shape[2] for case in cases)
    storage = static.batch.cache.storage.new_full((2, 1, blocks, *static.batch.cache.storage.shape[3:]), float("nan"))
    static.batch = PagedBatch(**{**vars(static.batch), "cache": PagedKVCache(storage)})
    query = static.query.clone()
    static.seen()
    graph = torch.cuda.CUDAGraph()
    with clean_capture() as pool, torch.cuda.graph(graph, pool=pool):
        out = triton_attention.attention(
            query, static.batch.cache.keys[0], static.batch.cache.values[0], static.batch, static.scale
        )
    for case in cases[1:]:
        storage.fill_(float("nan"))
        storage[:, :, : case.batch.cache.storage.shape[2]] = case.batch.cache.storage
        for name in ("block_table", "query_start_loc", "seq_lens"):
            getattr(static.batch, name).copy_(getattr(case.batch, name))
        query.copy_(case.query)
        graph.replay()
        case.check(out, what="a replay")


@pytest.mark.gpu
def test_it_is_chosen_by_itself():
    """On a GPU that is new enough, paged_attention gives what the kernels give, for the sizes that they support."""
    if not triton_attention.available(torch.device("cuda")):
        pytest.skip("this GPU is older than compute capability 8.0, or Triton is not installed")
    case = Case([1, 1], [30, 90], decode_rows=2)
    cache = case.batch.cache
    seen = paged_attention(case.query, cache.keys[0], cache.values[0], case.batch, case.scale)
    assert torch.equal(seen, case.seen())
    assert attention_kernel_name(cache.storage) == "triton paged attention"
    for shape, dtype in (((2, 32), torch.float16), ((2, 64), torch.float32)):
        assert attention_kernel_name(torch.zeros(shape, dtype=dtype, device="cuda")) == "plain torch"


def test_the_cpu_has_plain_torch():
    assert attention_kernel_name(torch.zeros(2, 64, dtype=torch.float16)) == "plain torch"
