"""Exercises 1.2 and 1.3: the static batch, and what it wastes."""

import pytest

from ch01_naive_loop import NaiveEngine
from tests.helpers import random_prompts, reference_outputs, shared_reference
from toolkit.errors import UserError

PROMPTS = random_prompts(7)


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, 12)


@pytest.mark.exercise("1.2")
def test_every_forward_gets_all_rows():
    """Prefill takes the padded prompts, each decode step one column with a token of every row, also of those done."""
    engine = NaiveEngine(shared_reference(), batch_size=3)
    seen = []
    forward = engine._forward

    def watched(input_ids, mask, cache, unfinished):
        seen.append((tuple(input_ids.shape), tuple(mask.shape)))
        step = len(seen) - 1
        assert step < 4, "every row has its tokens after 4 forwards, but the loop goes on for ever: see is_done"
        right = ((3, 6 if step == 0 else 1), (3, 6 + step))
        assert seen[-1] == right, (
            f"3 prompts, the longest of 6 tokens: in forward {step} input_ids and mask have the shapes {right}; "
            f"seen: {seen[-1]}. A decode step feeds the newest token of each row as one column, (rows, 1), and the "
            "mask grows by one; rows that are done stay in both"
        )
        return forward(input_ids, mask, cache, unfinished)

    engine._forward = watched
    engine.generate([[5] * 6, [6] * 2, [7] * 4], [4, 1, 3])


@pytest.mark.exercise("1.2")
@pytest.mark.parametrize("batch_size", [1, 3, 7, 16])
def test_equals_generate(expected, batch_size):
    """Greedy tokens equal those of the library's generate for each prompt alone, whatever it is batched with."""
    engine = NaiveEngine(shared_reference(), batch_size)
    seen = engine.generate(PROMPTS, [12] * len(PROMPTS))
    for i, (row, right) in enumerate(zip(seen, expected, strict=True)):
        assert row == right, (
            f"prompt {i} ({len(PROMPTS[i])} tokens) in a batch of {batch_size}: expected {right}, seen {row}. "
            "Right at first and wrong later: the mask did not grow, or the wrong column was fed. "
            "Wrong from the start: see exercise 1.1"
        )


@pytest.mark.exercise("1.2")
def test_each_row_stops_at_its_own_limit(expected):
    """Rows of one batch may want different numbers of tokens; each gets its own number, and not one more."""
    limits = [1, 12, 3, 7, 2, 12, 5]
    seen = NaiveEngine(shared_reference(), batch_size=7).generate(PROMPTS, limits)
    lengths = [len(row) for row in seen]
    assert lengths == limits, f"limits {limits}, seen {lengths} tokens. Append only to rows that are unfinished"
    right = [row[:limit] for row, limit in zip(expected, limits, strict=True)]
    assert seen == right, f"the numbers of tokens are right, but not the tokens: expected {right}, seen {seen}"


@pytest.mark.exercise("1.2")
def test_the_end_of_sequence_token_ends_a_row(expected):
    """A row ends with its end-of-sequence token, which it keeps, while the others go on."""
    eos = expected[2][4]
    engine = NaiveEngine(shared_reference(), batch_size=7)
    engine.eos_ids = {eos}
    seen = engine.generate(PROMPTS, [12] * 7)
    right = [row[: row.index(eos) + 1] if eos in row else row for row in expected]
    for i, (row, due) in enumerate(zip(seen, right, strict=True)):
        assert row == due, (
            f"with end-of-sequence token {eos}, row {i} should be {due}; seen {row}. Too long: it is not done after "
            "the token, or gets tokens when it is done. Too short: the token itself belongs to the answer"
        )


@pytest.mark.exercise("1.2")
def test_end_of_sequence_can_be_ignored(expected):
    """With ignore_eos a row goes on to its limit; benchmarks need that."""
    engine = NaiveEngine(shared_reference(), batch_size=7)
    engine.eos_ids = {expected[2][4]}
    seen = engine.generate(PROMPTS, [12] * 7, ignore_eos=True)
    lengths = [len(row) for row in seen]
    assert lengths == [12] * 7, f"ignore_eos=True: every row has 12 tokens; seen: {lengths}"
    assert seen == expected, f"the numbers of tokens are right, but not the tokens: expected {expected}, seen {seen}"


@pytest.mark.exercise("1.2")
def test_the_batch_ends_with_its_last_row():
    """The number of forwards is that of the longest row: prefill brings the first token, each decode step one more."""
    engine = NaiveEngine(shared_reference(), batch_size=3)
    engine.generate(PROMPTS[:3], [2, 9, 4])
    assert engine.num_steps == 9, f"the longest row wants 9 tokens: 9 forwards; seen: {engine.num_steps}"


@pytest.mark.exercise("1.3")
def test_padding_and_finished_rows_count_as_waste():
    """The padding share counts padded prompt positions and the positions of rows that are done already."""
    engine = NaiveEngine(shared_reference(), batch_size=2)
    engine.generate([[5] * 10, [6] * 4], [1, 4])
    # Prefill computes 2 x 10 positions, 14 of them real; each of 3 decode steps computes 2 positions, 1 of them wanted.
    seen = (engine.positions_computed, engine.positions_useful)
    assert seen == (26, 17), (
        f"prompts of 10 and 4 tokens, 1 and 4 new ones: 20 + 3 * 2 = 26 positions computed, 14 + 3 useful; "
        f"seen {seen}. A finished row's positions are computed, but not useful"
    )
    assert engine.padding_share == pytest.approx(9 / 26), (
        f"9 of 26 were wasted; padding_share is {engine.padding_share}"
    )


@pytest.mark.exercise("1.3")
def test_equal_rows_waste_nothing():
    """Prompts of one length that end together have a padding share of 0."""
    engine = NaiveEngine(shared_reference(), batch_size=3)
    engine.generate([[5] * 6, [6] * 6, [7] * 6], [4, 4, 4])
    assert engine.padding_share == 0, f"nothing was padded or late, but the padding share is {engine.padding_share}"


@pytest.mark.exercise("1.3")
def test_the_share_is_zero_before_the_first_forward():
    """An engine that has computed nothing has wasted nothing (and divides by nothing)."""
    assert NaiveEngine(shared_reference()).padding_share == 0


@pytest.mark.parametrize(("prompt", "words"), [([], "prompt 1 has no tokens"), ([1] * 250, "context of 256")])
def test_impossible_prompts_are_refused(prompt, words):
    """A prompt that cannot be served is refused with its number, before anything is computed."""
    engine = NaiveEngine(shared_reference())
    with pytest.raises(UserError, match=words):
        engine.generate([[1, 2], prompt], [12, 12])
    assert engine.num_steps == 0


def test_no_prompts_give_no_outputs():
    """Nothing to do is not an error."""
    assert NaiveEngine(shared_reference()).generate([], []) == []
