"""Exercise 2.6: one row's keys out of its blocks, and who may look at whom."""

import pytest
import torch

from ch02_continuous_batching.row_attention import gather, row_by_row, visible
from tests.causes import has_result, likely
from toolkit.paged_attention import PagedBatch, PagedKVCache, plain_attention

pytestmark = pytest.mark.exercise("2.6")

BLOCK_SIZE, KV_HEADS, HEAD_DIM = 4, 2, 3


def numbered_cache(num_blocks: int) -> torch.Tensor:
    """A cache in which every number of a slot is the slot's: (num_blocks, BLOCK_SIZE, KV_HEADS, HEAD_DIM)."""
    slots = torch.arange(num_blocks * BLOCK_SIZE, dtype=torch.float32)
    return slots.view(num_blocks, BLOCK_SIZE, 1, 1).expand(-1, -1, KV_HEADS, HEAD_DIM).clone()


def gathered_slots(table: list[int], seq_len: int) -> list[float]:
    """From which slots `gather` took a row's positions, one after the other."""
    call = f"gather(cache, block_table={table}, seq_len={seq_len})"
    seen = gather(numbered_cache(8), torch.tensor(table, dtype=torch.int32), seq_len)
    has_result(seen, call)
    shape = (seq_len, KV_HEADS, HEAD_DIM)
    assert tuple(seen.shape) == shape, f"{call} has the shape {tuple(seen.shape)}, and should have {shape}. " + likely(
        (
            seen.shape[0] == len(table) * BLOCK_SIZE,
            "The blocks are there with all their places: what comes after position seq_len - 1 is not the row's.",
        ),
        (seen.dim() == 4, "Blocks and places in a block are still two dimensions: flatten(0, 1) makes one of them."),
        (
            seen.shape[0] < seq_len,
            f"Some positions are missing: a block has {BLOCK_SIZE} here, as the cache's second dimension says, and the "
            "last block counts too, though it is not full.",
        ),
    )
    return seen[:, 0, 0].tolist()


@pytest.mark.parametrize(
    ("table", "seq_len", "slots"),
    [
        ([5, 1], 6, [20, 21, 22, 23, 4, 5]),
        ([2], 1, [8]),
        ([6, 0, 3], 12, [24, 25, 26, 27, 0, 1, 2, 3, 12, 13, 14, 15]),
        ([7, 4, 0, 0], 8, [28, 29, 30, 31, 16, 17, 18, 19]),  # padded, as the packer does for the widest row
    ],
)
def test_positions_come_from_the_rows_blocks_in_order(table: list[int], seq_len: int, slots: list[int]):
    """Position p is at place p % block_size of block table[p // block_size], whatever the blocks' numbers."""
    seen = gathered_slots(table, seq_len)
    by_number = [block * BLOCK_SIZE + place for block in sorted(table) for place in range(BLOCK_SIZE)][:seq_len]
    assert seen == slots, (
        f"blocks of {BLOCK_SIZE}, block table {table}, {seq_len} positions: they are in the slots {slots}, and you "
        f"took {[int(slot) for slot in seen]}. "
    ) + likely(
        (seen == by_number, "The blocks are in the order of their numbers; it is that of the table."),
        (seen == list(range(seq_len)), "Those are the cache's first places: the block table was not used."),
    )


def test_gather_leaves_the_cache_alone():
    """What is gathered is a copy."""
    cache = numbered_cache(4)
    gather(cache, torch.tensor([2, 0]), 5).zero_()
    assert torch.equal(cache, numbered_cache(4)), (
        "writing into what gather returned has changed the cache: return a copy; an index that is a tensor makes one"
    )


@pytest.mark.parametrize(
    ("num_queries", "seq_len", "last_visible"),
    [(1, 5, [4]), (2, 5, [3, 4]), (4, 4, [0, 1, 2, 3]), (1, 1, [0]), (3, 7, [4, 5, 6])],
)
def test_each_query_sees_itself_and_what_comes_before(num_queries: int, seq_len: int, last_visible: list[int]):
    """The queries are the row's last tokens; none looks at a later one."""
    call = f"visible(num_queries={num_queries}, seq_len={seq_len})"
    seen = visible(num_queries, seq_len)
    has_result(seen, call)
    assert tuple(seen.shape) == (num_queries, seq_len) and seen.dtype == torch.bool, (
        f"{call} should be bool of the shape {(num_queries, seq_len)}, got {seen.dtype} of {tuple(seen.shape)}"
    )
    expected = [[key <= last for key in range(seq_len)] for last in last_visible]
    assert seen.tolist() == expected, (
        f"{call}: the queries are at the positions {last_visible}, and each sees the positions up to its own: "
        f"{[[int(v) for v in row] for row in expected]}; yours is {seen.int().tolist()}. "
    ) + likely(
        (
            seen.tolist() == [[key <= query for key in range(seq_len)] for query in range(num_queries)],
            f"Your queries are at 0 to {num_queries - 1}; they are the row's last tokens, not its first.",
        ),
        (
            seen.tolist() == [[key < last for key in range(seq_len)] for last in last_visible],
            "A token sees itself too.",
        ),
        (
            seen.tolist() == [[not v for v in row] for row in expected],
            "True and False are swapped: True is for what may be looked at.",
        ),
        (bool(seen.all()), "Queries see tokens that come after them."),
    )


def test_the_same_as_for_all_rows_at_once():
    """Two decodes and a chunk; what belongs to no row is NaN. Row by row, it is the toolkit's result."""
    generator = torch.Generator().manual_seed(0)
    query_lengths, seq_lens, tables = [1, 1, 3], [6, 3, 7], [[5, 1], [0, 0], [4, 2]]
    cache = PagedKVCache(torch.full((2, 1, 8, BLOCK_SIZE, KV_HEADS, HEAD_DIM), float("nan")))
    for table, length in zip(tables, seq_lens, strict=True):
        for position in range(length):
            place = (slice(None), 0, table[position // BLOCK_SIZE], position % BLOCK_SIZE)
            cache.storage[place] = torch.randn(2, KV_HEADS, HEAD_DIM, generator=generator)
    batch = PagedBatch(
        cache=cache,
        block_table=torch.tensor(tables, dtype=torch.int32),
        slot_mapping=torch.zeros(0, dtype=torch.int64),
        query_start_loc=torch.tensor([0, 1, 2, 5], dtype=torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        num_decode_rows=2,
        max_query_length=max(query_lengths),
    )
    query = torch.randn(sum(query_lengths), 2 * KV_HEADS, HEAD_DIM, generator=generator)
    expected = plain_attention(query, cache.keys[0], cache.values[0], batch, HEAD_DIM**-0.5)
    seen = row_by_row(query, cache.keys[0], cache.values[0], batch, HEAD_DIM**-0.5)
    assert not seen.isnan().any(), "row by row there is NaN in the result: a place was read that no row has written"
    worst = float((seen - expected).abs().max())
    assert worst < 1e-5, (
        f"row by row the attention is {worst:.3g} away from the toolkit's for all rows at once; gather gives each "
        "query its keys and values, visible says which of them count"
    )
