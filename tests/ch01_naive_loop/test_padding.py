"""Exercise 1.1: ragged prompts made rectangular."""

import pytest
import torch

from ch01_naive_loop import pad_left, position_ids

pytestmark = pytest.mark.exercise("1.1")


def test_prompts_end_in_the_last_column():
    """Short prompts are filled up on the left, so that every row's newest token stands in the last column."""
    input_ids, _ = pad_left([[5, 6, 7], [8], [1, 2]], pad_id=9)
    assert input_ids.tolist() == [[5, 6, 7], [9, 9, 8], [9, 1, 2]], (
        f"padding 9 belongs on the left; seen: {input_ids.tolist()}. "
        "With padding on the right, the next token would be read off a padding column"
    )
    assert input_ids.dtype == torch.int64, f"token ids are int64; seen: {input_ids.dtype}"


def test_the_mask_marks_padding_by_place_not_by_value():
    """The mask is 1 for a prompt's own tokens, even where one happens to be the padding token."""
    _, mask = pad_left([[0, 4, 0], [0], [3, 0]], pad_id=0)
    assert mask.tolist() == [[1, 1, 1], [0, 0, 1], [0, 1, 1]], (
        f"the token 0 is used for padding and occurs in the prompts as well; the mask is {mask.tolist()}. "
        "Make it from the lengths, not by comparing with pad_id"
    )
    assert mask.dtype == torch.int64, f"the mask is int64, so that positions counted from it are; seen: {mask.dtype}"


def test_positions_count_from_each_rows_first_token():
    """A row's first real token has position 0, whatever stands to its left."""
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1]])
    seen = position_ids(mask)
    real = [row[m.bool()].tolist() for row, m in zip(seen, mask, strict=True)]
    assert real == [[0, 1, 2, 3], [0], [0, 1, 2]], (
        f"positions of the real tokens should be 0, 1, 2, ... in each row; seen: {real}. Count up from 0"
    )
    assert int(seen.min()) >= 0, f"a position must not be negative, even for padding; seen: {seen.tolist()}"
