"""Exercises 1.2 and 1.3: the static batch, and what it wastes."""

import math
from collections.abc import Iterator

import pytest

from ch01_naive_loop import NaiveEngine
from tests.causes import has_result, likely
from tests.endless import must_end
from tests.helpers import random_prompts, reference_outputs, shared_reference, tiny_model
from toolkit.errors import UserError

PROMPTS = random_prompts(7)


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    return reference_outputs(shared_reference(), PROMPTS, 12)


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """The longest of these tests needs 4,000 lines of the chapter."""
    with must_end(lines=40_000):
        yield


class Limited(NaiveEngine):
    """Ends a loop that never does after 200 forwards, twice as many as any of these tests needs."""

    def _forward(self, *arguments):
        assert self.num_steps < 200, (
            "no row wants more than 12 tokens, but after 200 forwards the loop goes on. "
            + likely(
                (
                    self.is_done([5] * 12, 12, True),
                    "is_done is right about 12 tokens of 12: do they get into `outputs`?",
                ),
                otherwise="is_done says that 12 tokens of 12 are not all",
            )
        )
        return super()._forward(*arguments)


def assert_rows(seen: list[list[int]], right: list[list[int]], hint: str) -> None:
    for i, (row, due) in enumerate(zip(seen, right, strict=True)):
        assert row == due, f"row {i} should be {due}; seen: {row}. {hint}"


@pytest.mark.exercise("1.2")
@pytest.mark.parametrize(
    ("output", "max_tokens", "ignore_eos", "right", "because"),
    [
        ([], 3, False, False, "it has no token yet, and so no newest one to look at"),
        ([5], 3, False, False, "it has 1 token of 3"),
        ([5, 6, 5], 3, False, True, "it has its 3 tokens of 3: the limit is reached, and one more would be too many"),
        ([5, 7], 3, False, True, "it has ended with 7, an end-of-sequence token"),
        (
            [5, 8],
            3,
            False,
            True,
            "it has ended with 8: there are three end-of-sequence tokens, and each of them counts",
        ),
        (
            [5, 9],
            3,
            False,
            True,
            "it has ended with 9: there are three end-of-sequence tokens, and each of them counts",
        ),
        ([5, 9], 3, True, False, "it may go on after its end-of-sequence token, and has 2 tokens of 3"),
        ([5, 9, 9], 3, True, True, "it has its 3 tokens of 3; ignore_eos does not lift the limit"),
    ],
    ids=["no token", "1 of 3", "3 of 3", "first eos", "second eos", "third eos", "eos ignored", "3 of 3, eos ignored"],
)
def test_when_a_row_is_done(output: list[int], max_tokens: int, ignore_eos: bool, right: bool, because: str):
    """A row is done with its last token, or with any of the model's end-of-sequence tokens unless they are ignored."""
    engine = NaiveEngine(shared_reference())
    engine.eos_ids = {7, 8, 9}
    seen = engine.is_done(output, max_tokens, ignore_eos)
    has_result(seen, "is_done")
    assert bool(seen) is right, (
        f"is_done({output}, max_tokens={max_tokens}, ignore_eos={ignore_eos}) with the end-of-sequence tokens 7, 8 and "
        f"9 should be {right}, for {because}; seen: {seen}"
    )


@pytest.mark.exercise("1.2")
def test_every_forward_gets_all_rows():
    """Prefill takes the padded prompts, each decode step one column with a token of every row, also of those done."""
    engine = NaiveEngine(shared_reference(), batch_size=3)
    wanted = [[0, 1, 2], [0, 2], [0, 2], [0]]
    forward, calls = engine._forward, 0

    def watched(input_ids, mask, cache, unfinished):
        nonlocal calls
        assert calls < 4, "rows of 4, 1 and 3 tokens are ready after 4 forwards, but the loop goes on. " + likely(
            (engine.is_done([5] * 4, 4, False), "is_done is right about it: do tokens get into `outputs`?"),
            otherwise="is_done([5, 5, 5, 5], max_tokens=4, ignore_eos=False) says that it is not done",
        )
        seen, right = (tuple(input_ids.shape), tuple(mask.shape)), ((3, 1 if calls else 6), (3, 6 + calls))
        assert seen == right, (
            f"3 prompts, the longest of 6 tokens: in forward {calls} input_ids and mask have the shapes {right}; "
            f"seen: {seen}. A decode step feeds the newest token of each row as one column, (rows, 1), and the "
            "mask grows by one; rows that are done stay in both"
        )
        assert sorted(unfinished) == wanted[calls], (
            f"rows of 4, 1 and 3 tokens: in forward {calls} the rows {wanted[calls]} are unfinished; _forward was told "
            f"{list(unfinished)}. Were the tokens appended to `outputs`, and was `unfinished` handed on as it is?"
        )
        calls += 1
        return forward(input_ids, mask, cache, unfinished)

    engine._forward = watched
    engine.generate([[5] * 6, [6] * 2, [7] * 4], [4, 1, 3])


@pytest.mark.exercise("1.2")
@pytest.mark.parametrize("batch_size", [1, 3, 7, 16])
def test_equals_generate(expected, batch_size):
    """Greedy tokens equal those of the library's generate for each prompt alone, whatever it is batched with."""
    seen = Limited(shared_reference(), batch_size).generate(PROMPTS, [12] * len(PROMPTS))
    for i, (row, right) in enumerate(zip(seen, expected, strict=True)):
        assert row == right, f"prompt {i} in a batch of {batch_size} should give {right}; seen: {row}. " + likely(
            (
                row[:1] == right[:1],
                "Right at first and wrong later: the mask did not grow on its right by a column of "
                "ones, or something else than the newest tokens was fed",
            ),
            otherwise="Wrong from the first token on: see exercise 1.1",
        )


@pytest.mark.exercise("1.2")
def test_each_row_stops_at_its_own_limit(expected):
    """Rows of one batch may want different numbers of tokens; each gets its own number, and not one more."""
    limits = [1, 12, 3, 7, 2, 12, 5]
    seen = Limited(shared_reference(), batch_size=7).generate(PROMPTS, limits)
    lengths = [len(row) for row in seen]
    assert lengths == limits, f"the rows' limits are {limits}; seen: {lengths} tokens. " + likely(
        (min(lengths) == max(lengths) == 12, "Append only to rows that are unfinished"),
        (lengths == [min(limits)] * 7, "The loop ended with its first row, not with its last"),
    )
    right = [row[:limit] for row, limit in zip(expected, limits, strict=True)]
    assert_rows(
        seen, right, "next_ids has an entry for every row, also for those that are done: row i's is next_ids[i]"
    )


@pytest.mark.exercise("1.2")
def test_a_row_may_want_no_token(expected):
    """A limit of 0: nothing is appended to that row, and the others are not disturbed."""
    limits = [0, 3, 0, 2]
    seen = Limited(shared_reference(), batch_size=4).generate(PROMPTS[:4], limits)
    right = [row[:limit] for row, limit in zip(expected[:4], limits, strict=True)]
    assert_rows(seen, right, "The next forward's ids are next_ids: a row's last token is not there if it has none")


@pytest.mark.exercise("1.2")
def test_the_end_of_sequence_token_ends_a_row(expected):
    """A row ends with an end-of-sequence token, which it keeps, while the others go on; a model may have several."""
    engine = Limited(shared_reference(), batch_size=7)
    engine.eos_ids = {expected[2][4], expected[5][3], expected[3][5]}
    seen = engine.generate(PROMPTS, [12] * 7)
    ends = [next((i + 1 for i, token in enumerate(row) if token in engine.eos_ids), 12) for row in expected]
    assert_rows(
        seen,
        [row[:end] for row, end in zip(expected, ends, strict=True)],
        f"End-of-sequence tokens are {sorted(engine.eos_ids)}. Too long: the row is not done after one, or gets tokens "
        "when it is done. Too short: the token itself belongs to the answer",
    )


@pytest.mark.exercise("1.2")
def test_end_of_sequence_can_be_ignored(expected):
    """With ignore_eos a row goes on to its limit; benchmarks need that."""
    engine = Limited(shared_reference(), batch_size=7)
    engine.eos_ids = {expected[2][4]}
    seen = engine.generate(PROMPTS, [12] * 7, ignore_eos=True)
    lengths = [len(row) for row in seen]
    assert lengths == [12] * 7, f"ignore_eos=True: every row has 12 tokens; seen: {lengths}"
    assert_rows(seen, expected, "The numbers of tokens are right, but not the tokens")


@pytest.mark.exercise("1.2")
def test_the_batch_ends_with_its_last_row():
    """The number of forwards is that of the longest row: prefill brings the first token, each decode step one more."""
    engine = Limited(shared_reference(), batch_size=3)
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
        f"seen: {seen}. "
    ) + likely(
        (
            seen[0] in (2, 17) and seen[0] != 26 and seen[1] in (1, 17) and seen != (17, 17),
            "Add to the counters; only the last forward is in them",
        ),
        (seen[0] == 8, "Not rows, but positions are counted: a forward over rows x columns computes all of them"),
        (seen[0] in (17, 23), "Padding and finished rows are computed as well"),
        (seen[1] == 20, "A finished row's positions are computed, but not useful"),
        (seen[1] == 23, "Padding is computed, but not useful"),
    )
    share = engine.padding_share
    has_result(share, "padding_share")
    assert share == pytest.approx(9 / 26), (
        f"9 of 26 were wasted, {9 / 26:.3f}; padding_share is {share:.3f}. "
        + likely(
            (share == pytest.approx(17 / 26), "That is the useful share"),
            (share == pytest.approx(9 / 17), "That is the waste over what was useful, not over all that was computed"),
        )
    )


@pytest.mark.exercise("1.3")
def test_which_rows_are_useful():
    """A row that wants nothing is waste from its prompt on, wherever it is in the batch."""
    engine = NaiveEngine(shared_reference(), batch_size=2)
    engine.generate([[5] * 4, [6] * 9], [0, 3])
    assert engine.positions_useful == 9 + 2, (
        "prompts of 4 and 9 tokens, 0 and 3 new ones: the second row's 9 and then 2 positions are useful, so 11; seen: "
        f"{engine.positions_useful}. "
    ) + likely(
        (engine.positions_useful == 4 + 2, "`unfinished` has the rows' numbers, here [1], and not how many they are"),
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
    share = NaiveEngine(shared_reference()).padding_share
    assert share == 0, f"nothing was computed yet, so nothing of it was padding; padding_share is {share}"


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


@pytest.mark.parametrize(
    ("prompt", "limit"), [([5, 96], 4), ([-1], 4), ([1.5], 4), (["5"], 4), ([5], math.nan), ([5], 1.5), ([5], None)]
)
def test_what_is_no_token_or_no_limit_is_refused(prompt, limit):
    """One line for what would end the process on a GPU, or never end: ids that the model has not, a limit of nan."""
    with pytest.raises(UserError, match="of prompt 1 is"):
        NaiveEngine(tiny_model()).generate([[5, 6], prompt], [4, limit])


@pytest.mark.parametrize("batch_size", [0, 1.5, None])
def test_a_batch_has_a_row(batch_size):
    with pytest.raises(UserError, match="batch_size is"):
        NaiveEngine(tiny_model(), batch_size)
