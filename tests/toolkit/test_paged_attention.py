"""Paged attention against attention computed the plain way, in float64, row by row."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.helpers import tiny_model
from toolkit.paged_attention import PagedBatch, PagedKVCache, paged_attention, use_paged_attention, write_kv

BLOCK_SIZE, KV_HEADS, HEADS, HEAD_DIM = 4, 2, 6, 8


def make_case(query_lengths: list[int], seq_lens: list[int], seed: int = 0):
    """Rows over shuffled blocks of a cache in which everything that no row has written is NaN."""
    generator = torch.Generator().manual_seed(seed)
    num_blocks = 60
    free = torch.randperm(num_blocks, generator=generator).tolist()
    cache = PagedKVCache(torch.full((2, 1, num_blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM), float("nan")))
    tables, rows_k, rows_v = [], [], []
    for length in seq_lens:
        blocks = [free.pop() for _ in range(-(-length // BLOCK_SIZE))]
        slots = torch.tensor([blocks[p // BLOCK_SIZE] * BLOCK_SIZE + p % BLOCK_SIZE for p in range(length)])
        rows_k.append(torch.randn(length, KV_HEADS, HEAD_DIM, generator=generator))
        rows_v.append(torch.randn(length, KV_HEADS, HEAD_DIM, generator=generator))
        write_kv(cache.keys[0], slots, rows_k[-1])
        write_kv(cache.values[0], slots, rows_v[-1])
        tables.append(blocks)
    widest = max(len(table) for table in tables)
    table = torch.tensor([t + [0] * (widest - len(t)) for t in tables], dtype=torch.int32)
    starts = torch.tensor([0, *query_lengths]).cumsum(0).to(torch.int32)
    batch = PagedBatch(
        cache=cache,
        block_table=table,
        slot_mapping=torch.zeros(0, dtype=torch.int64),
        query_start_loc=starts,
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        num_decode_rows=sum(q == 1 for q in query_lengths),
        max_query_length=max(query_lengths),
    )
    query = torch.randn(sum(query_lengths), HEADS, HEAD_DIM, generator=generator)
    return query, batch, rows_k, rows_v


def plain_attention(query, query_lengths, rows_k, rows_v, scale):
    out, start = [], 0
    for length, k, v in zip(query_lengths, rows_k, rows_v, strict=True):
        q = query[start : start + length].double().transpose(0, 1)
        k, v = (x.double().transpose(0, 1).repeat_interleave(HEADS // KV_HEADS, 0) for x in (k, v))
        scores = q @ k.transpose(1, 2) * scale
        future = torch.ones(length, k.shape[1], dtype=torch.bool).triu(k.shape[1] - length + 1)
        out.append((scores.masked_fill(future, float("-inf")).softmax(-1) @ v).transpose(0, 1))
        start += length
    return torch.cat(out)


@pytest.mark.parametrize(
    ("query_lengths", "seq_lens"),
    [
        ([1, 1, 1], [1, 9, 16]),  # decode only, one row with nothing before it
        ([5, 17], [5, 17]),  # whole prompts
        ([3, 8], [11, 20]),  # chunks behind earlier chunks
        ([1, 1, 2, 7], [13, 4, 2, 30]),  # decode rows, then chunks
        ([4], [4]),
        ([1], [7]),
    ],
)
def test_equals_plain_attention(query_lengths, seq_lens):
    query, batch, rows_k, rows_v = make_case(query_lengths, seq_lens)
    seen = paged_attention(query, batch.cache.keys[0], batch.cache.values[0], batch, scale=0.3)
    expected = plain_attention(query, query_lengths, rows_k, rows_v, scale=0.3)
    error = float((seen.double() - expected).norm() / expected.norm())
    assert error < 1e-6, f"relative error {error:.1e} for query lengths {query_lengths} and KV lengths {seq_lens}"


def test_nothing_is_read_on_the_host():
    """On fake tensors, which have no values, a read on the host raises: so the device is never waited for."""
    query, batch, _, _ = make_case([1, 1, 2, 7], [13, 4, 2, 30])
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = {
            field.name: mode.from_tensor(value)
            if isinstance(value := getattr(batch, field.name), torch.Tensor)
            else value
            for field in dataclasses.fields(batch)
        }
        keys, values = mode.from_tensor(batch.cache.keys[0]), mode.from_tensor(batch.cache.values[0])
        out = paged_attention(mode.from_tensor(query), keys, values, PagedBatch(**fake), scale=0.3)
    assert out.shape == query.shape


def test_what_it_does_not_compute_is_refused():
    """A layer that asks for a sliding window gets an error, not wrong numbers."""
    model = tiny_model("mistral")
    use_paged_attention(model)
    for layer in model.model.layers:
        layer.self_attn.config.sliding_window = 8
    with pytest.raises(NotImplementedError, match="sliding_window"):
        model(input_ids=torch.tensor([[1]]), position_ids=torch.tensor([[0]]), use_cache=False, paged=None)
