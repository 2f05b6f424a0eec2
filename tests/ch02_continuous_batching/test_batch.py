"""Exercise 2.4: from rows to packed tensors."""

import numpy as np
import pytest
import torch

from ch02_continuous_batching import BlockManager, Packer, Request, Row, SamplingParams
from ch02_continuous_batching.batch import BatchInputs, pack_tokens
from ch02_continuous_batching.random_numbers import uniform_number
from ch02_continuous_batching.request import PLACEHOLDER

BLOCK_SIZE = 4


def make_rows() -> tuple[list[Row], BlockManager]:
    """A last chunk, a decode row and an unfinished chunk, with distinct tokens and blocks in no order."""
    blocks = BlockManager(40, BLOCK_SIZE)
    chunk = Request("chunk", [10, 11, 12, 13, 14, 15, 16], SamplingParams(), 0)
    decode = Request("decode", [20, 21, 22], SamplingParams(temperature=0.5, top_k=3, top_p=0.9, seed=5), 1)
    decode.output_ids = [23, 24, 25]
    first = Request("first", [30, 31, 32, 33, 34], SamplingParams(), 2)
    chunk.block_table, decode.block_table, first.block_table = [9, 2], [30, 5], [1]
    rows = [Row(chunk, 0, 3, 4, True), Row(decode, 0, 5, 1, True), Row(first, 0, 0, 2, False)]
    return rows, blocks


def pack(rows: list[Row], blocks: BlockManager) -> tuple[tuple[Row, ...], BatchInputs]:
    """The rows in packed order, and the inputs of their batch."""
    batch = Packer(blocks).pack(0, rows, previous=None)
    return batch.rows, batch.inputs


def packed(rows: list[Row], blocks: BlockManager) -> tuple[tuple[Row, ...], BatchInputs]:
    """What `pack` makes of the rows, once `pack_tokens` has given it flat lists of numbers."""
    names = ("input_ids", "position_ids", "slot_mapping", "query_start_loc", "seq_lens", "logits_indices")
    for name, values in zip(names, pack_tokens(rows, blocks), strict=True):
        odd = [value for value in values if not isinstance(value, int)]
        assert not odd, (
            f"{name} is a list of numbers, but has {odd[0]} in it: use += (or extend) for several, not append"
        )
    return pack(rows, blocks)


def check(name: str, seen: object, expected: object, cause: str) -> None:
    assert seen == expected, f"{name} of the packed batch should be {expected}; seen: {seen}. {cause}"


@pytest.mark.exercise("2.4")
def test_tokens_and_positions_are_packed():
    """The rows' tokens follow one another without padding, each with its position in its own request."""
    rows, blocks = make_rows()
    _, inputs = packed(rows, blocks)
    check(
        "input_ids", inputs.input_ids.tolist(), [25, 13, 14, 15, 16, 30, 31], "Decode rows feed the newest output token"
    )
    check("position_ids", inputs.position_ids.tolist(), [5, 3, 4, 5, 6, 0, 1], "A chunk goes on at row.start, not at 0")


@pytest.mark.exercise("2.4")
def test_slots_point_into_each_rows_own_blocks():
    """Keys and values are written where the row's block table says, position by position."""
    rows, blocks = make_rows()
    _, inputs = packed(rows, blocks)
    expected = [5 * 4 + 1, 9 * 4 + 3, 2 * 4 + 0, 2 * 4 + 1, 2 * 4 + 2, 1 * 4 + 0, 1 * 4 + 1]
    check("slot_mapping", inputs.slot_mapping.tolist(), expected, "Use blocks.slot(request, position)")


@pytest.mark.exercise("2.4")
def test_lengths_count_everything_in_the_cache():
    """query_start_loc counts this step's tokens; seq_lens counts all of a row's tokens up to and with this step's."""
    rows, blocks = make_rows()
    _, inputs = packed(rows, blocks)
    check(
        "query_start_loc", inputs.query_start_loc.tolist(), [0, 1, 5, 7], "One entry per row and one more, cumulative"
    )
    check("seq_lens", inputs.seq_lens.tolist(), [6, 7, 2], "The tokens of this step count too, later ones do not")


@pytest.mark.exercise("2.4")
def test_only_sampling_rows_are_sampled():
    """logits_indices names the last token of each row that samples; an unfinished chunk has none."""
    rows, blocks = make_rows()
    ordered, inputs = packed(rows, blocks)
    check(
        "logits_indices",
        inputs.logits_indices.tolist(),
        [0, 4],
        "It counts in packed tokens, as query_start_loc; the row `first` is an unfinished chunk and must not sample",
    )
    names = [row.request.request_id for row in ordered]
    check("the order of rows", names, ["decode", "chunk", "first"], "Decode rows come first")


@pytest.mark.exercise("2.4")
def test_a_token_in_flight_has_a_placeholder():
    """A row may reach a token that the host does not know yet: something stands in for it, and nothing shifts."""
    rows, blocks = make_rows()
    decode = rows[1].request  # 6 tokens are known; its next one, at position 6, is in flight
    _, inputs = packed([Row(decode, 0, 6, 1, True), rows[2]], blocks)
    cause = f"token_ids(6, 7) gives [{PLACEHOLDER}] for it; prompt + output is shorter. Later chapters need it"
    check("input_ids", inputs.input_ids.tolist(), [PLACEHOLDER, 30, 31], cause)
    check("query_start_loc", inputs.query_start_loc.tolist(), [0, 1, 3], cause)


def test_sampling_inputs_follow_the_sampling_rows():
    """Temperature, limits and random numbers are in the order of the rows that sample."""
    rows, blocks = make_rows()
    _, inputs = pack(rows, blocks)
    assert inputs.temperature.tolist() == [0.5, 0.0] and inputs.top_k.tolist() == [3, 0]
    torch.testing.assert_close(inputs.top_p, torch.tensor([0.9, 1.0]))
    assert inputs.uniform.tolist() == [uniform_number(5, 6), 0.0], "a greedy row needs no random number"
    assert not inputs.greedy, "one row has a temperature, so the batch is not greedy"


def test_each_input_has_its_dtype():
    """As BatchInputs says; also in a step in which no row samples, where four of them are empty."""
    rows, blocks = make_rows()
    for chosen in (rows, rows[2:]):
        _, inputs = pack(chosen, blocks)
        seen = {name: values.dtype for name, values in inputs.tensors().items()}
        for name in ("query_start_loc", "seq_lens", "block_table"):
            check(f"the dtype of {name}", seen.pop(name), torch.int32, "The attention kernels read 32 bits each")
        for name in ("temperature", "top_p", "uniform"):
            check(f"the dtype of {name}", seen.pop(name), torch.float32, "The sampler computes in float32")
        check("all other dtypes", set(seen.values()), {torch.int64}, "Token ids and indices are 64 bits wide")


def test_block_tables_are_filled_up_with_a_valid_block():
    """Short block tables are filled with block 0: never read, but gathered, so it must exist."""
    rows, blocks = make_rows()
    _, inputs = pack(rows, blocks)
    assert inputs.block_table.tolist() == [[30, 5], [9, 2], [1, 0]]


def test_uniform_numbers_are_even_and_repeatable():
    """Random numbers depend on seed and position alone, lie in [0, 1) and fill it evenly."""
    numbers = [uniform_number(seed, position) for seed in range(20) for position in range(500)]
    assert numbers == [uniform_number(seed, position) for seed in range(20) for position in range(500)]
    assert all(0 <= n < 1 for n in numbers) and len(set(numbers)) > 9900
    counts = [sum(int(n * 10) == tenth for n in numbers) for tenth in range(10)]
    assert min(counts) > 850 and max(counts) < 1150, f"10,000 numbers in ten equal bins: {counts}"


def test_the_numbers_of_an_array_are_those_one_by_one():
    """Bit for bit, at the edges of 64 bits as well: chapter 9 makes all of them at once."""
    pairs = [(seed, position) for seed in (0, 7, 2**63, 2**64 - 1) for position in (0, 1, 5000)]
    seeds, positions = (np.array(column, np.uint64) for column in zip(*pairs, strict=True))
    assert uniform_number(seeds, positions).tolist() == [uniform_number(*pair) for pair in pairs]
