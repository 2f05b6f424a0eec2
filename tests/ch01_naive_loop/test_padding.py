"""Exercise 1.1: ragged prompts made rectangular."""

import copy

import pytest
import torch
from torch import Tensor

from ch01_naive_loop import pad_left, position_ids
from tests.causes import has_result, likely

pytestmark = pytest.mark.exercise("1.1")


def padded(prompts: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    result = pad_left(prompts, pad_id)
    has_result(result, "pad_left")
    kinds = [type(part).__name__ for part in result]
    assert kinds == ["Tensor", "Tensor"], f"pad_left returns two tensors, input_ids and attention_mask; seen: {kinds}"
    return result


def test_prompts_end_in_the_last_column():
    """Short prompts are filled up on the left, so that every row's newest token is in the last column."""
    prompts, right = [[8], [5, 6, 7], [1, 2]], [[9, 9, 8], [5, 6, 7], [9, 1, 2]]
    input_ids, _ = padded(prompts, pad_id=9)
    seen = input_ids.tolist()
    assert seen == right, f"{prompts}, padded with 9, should become {right}; seen: {seen}. " + likely(
        (
            seen == [[8, 9, 9], [5, 6, 7], [1, 2, 9]],
            "Padding belongs on the left: on the right, the next token would be read off a padding column",
        ),
        (seen == [[1 if real != 9 else 0 for real in row] for row in right], "That is the mask; input_ids comes first"),
        (sorted(seen) == sorted(right), "The rows have to stay in their order"),
        (any(0 in row for row in seen), "The padding is 0, not the pad_id that was given"),
    )
    assert input_ids.dtype == torch.int64, f"token ids are int64; seen: {input_ids.dtype}"


def test_the_mask_marks_padding_by_place_not_by_value():
    """The mask is 1 for a prompt's own tokens, even where one happens to be the padding token."""
    _, mask = padded([[0], [0, 4, 0], [3, 0]], pad_id=0)
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1], [0, 1, 1]], (
        f"the token 0 is used for padding and occurs in the prompts as well; the mask is {mask.tolist()}. "
        "Make it from the lengths, not by comparing with pad_id"
    )
    assert mask.dtype == torch.int64, f"the mask is int64, so that positions counted from it are; seen: {mask.dtype}"


def test_the_prompts_are_left_alone():
    """The caller's prompts are as they were: padding goes into new lists, not into theirs."""
    prompts = [[8], [5, 6, 7], [1, 2]]
    before = copy.deepcopy(prompts)
    padded(prompts, pad_id=9)
    assert prompts == before, (
        f"pad_left was given {before} and changed the caller's lists to {prompts}. insert, += and prompts[i] = ... "
        "work in place; [pad_id] * missing + prompt makes a new list"
    )


def test_positions_count_from_each_rows_first_token():
    """A row's first real token has position 0, whatever is to its left; so has padding."""
    mask = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    before = mask.clone()
    positions = position_ids(mask)
    has_result(positions, "position_ids")
    assert torch.equal(mask, before), (
        f"position_ids changed the mask that it was given to {mask.tolist()}: cumsum_ and the like work in place"
    )
    seen = positions.tolist()
    real = [row[m.bool()].tolist() for row, m in zip(positions, mask, strict=True)]
    assert real == [[0], [0, 1, 2, 3], [0, 1, 2]], (
        f"positions of the real tokens should be 0, 1, 2, ... in each row; seen: {real}. "
    ) + likely(
        (real == [[1], [1, 2, 3, 4], [1, 2, 3]], "Count up from 0, not from 1"),
        (real == [[3], [0, 1, 2, 3], [1, 2, 3]], "That is the number of the column; padding must not count"),
        (real == [[0], [0, 0, 0, 1], [1, 1, 2]], "They were counted down the columns, from row to row"),
    )
    padding = [row[~m.bool()].tolist() for row, m in zip(positions, mask, strict=True)]
    assert padding == [[0, 0, 0], [], [0]], f"padding gets position 0; seen: {padding} in {seen}. " + likely(
        (min(map(min, seen)) < 0, "A position must not be negative, even for padding")
    )
    assert positions.dtype == torch.int64, f"positions are int64; seen: {positions.dtype}"
