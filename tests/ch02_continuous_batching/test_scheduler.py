"""Exercise 2.2: which rows run."""

from collections.abc import Iterator

import pytest

from tests.ch02_continuous_batching.scheduling import commit, scheduler_with, shares, step
from tests.endless import must_end
from tests.words import counted

pytestmark = pytest.mark.exercise("2.2")


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """The longest of these tests needs 4,000 lines of the chapter."""
    with must_end(lines=100_000):
        yield


def test_a_step_stays_within_the_token_budget():
    """All rows of a step together compute at most token_budget tokens; what is left over goes to the next request."""
    scheduler, _ = scheduler_with(6, 6, 6, token_budget=16)
    seen = shares(scheduler.schedule())
    assert seen == {"a": 6, "b": 6, "c": 4}, (
        f"prompts of 6, 6 and 6 tokens under a budget of 16 give 6 + 6 + 4; seen: {seen}, "
        f"{sum(seen.values())} in all. Subtract what the rows chosen so far use"
    )


def test_a_long_prompt_is_computed_in_chunks():
    """A prompt longer than the budget is cut into chunks that follow each other without gap or overlap."""
    scheduler, _ = scheduler_with(20, token_budget=8)
    chunks = []
    for _ in range(3):
        rows = scheduler.schedule()
        chunks += [(row.start, row.num_tokens) for row in rows]
        commit(rows)
    assert chunks == [(0, 8), (8, 8), (16, 4)], (
        f"20 prompt tokens under a budget of 8 are the chunks (start, tokens) (0, 8), (8, 8), (16, 4); seen: {chunks}. "
        "A row starts at num_computed_tokens, which moves on by num_tokens when it is scheduled"
    )


def test_only_the_last_chunk_samples():
    """A chunk that does not reach the prompt's end yields no token: the next token is known, it is in the prompt."""
    scheduler, (request,) = scheduler_with(20, token_budget=8)
    samples = []
    for _ in range(3):
        rows = scheduler.schedule()
        new = [row.samples for row in rows]
        samples += new
        assert request.pending_samples == sum(new), (
            f"a row with samples={new} was scheduled, so {counted(sum(new), 'sample is', 'samples are')} pending; "
            f"the request says {request.pending_samples}"
        )
        commit(rows)
    assert samples == [False, False, True], (
        f"of three chunks only the last one samples; seen: {samples}. "
        "A row samples if it ends with the last token that is known, num_tokens of the request"
    )


def test_samples_that_are_pending_already_are_kept():
    """A row adds to what is pending: later chapters schedule a request whose last sample is not back yet."""
    scheduler, (request,) = scheduler_with(5)
    request.pending_samples = 1
    scheduler.schedule()
    assert request.pending_samples == 2, (
        f"one sample was pending and a row that samples was scheduled: that makes 2; seen: {request.pending_samples}. "
        "pending_samples goes up by 1"
    )


def test_decode_computes_one_token_per_step():
    """After its prompt, a request computes one token per step: the one that the step before has sampled."""
    scheduler, (request,) = scheduler_with(5)
    first = step(scheduler)
    assert first == {"a": 5}, f"a's prompt of 5 tokens fits into one step; seen: {first}"
    for _ in range(4):
        rows = scheduler.schedule()
        seen = [(row.start, row.num_tokens, row.samples) for row in rows]
        assert seen == [(request.num_tokens - 1, 1, True)], (
            f"{request.num_tokens} tokens are known: in decode a row is the newest token alone and samples, (start, "
            f"num_tokens, samples) is ({request.num_tokens - 1}, 1, True); seen: {seen}"
        )
        commit(rows)


def test_a_token_in_flight_is_not_scheduled():
    """A request whose next token is still being computed sits out: there is nothing to feed the model with yet."""
    scheduler, (a, b) = scheduler_with(5, 20, token_budget=12)
    first = scheduler.schedule()  # a whole, b in part; nothing is committed
    seen = shares(scheduler.schedule())
    assert seen == {"b": 12}, (
        f"the first step ({shares(first)}) is in flight: a waits for its token, b has prompt tokens left and goes on. "
        f"Seen: {seen}. Count tokens as computed when they are scheduled, not when they are committed"
    )


def test_first_come_first_served_lets_tokens_flow():
    """Under "fcfs", running requests get their tokens first, and a newcomer's prompt fills the rest of the budget."""
    scheduler, _ = scheduler_with(4, 4, 30, token_budget=8)
    first = step(scheduler)
    assert first == {"a": 4, "b": 4}, f"a and b use up the budget of 8; seen: {first}"
    seen = step(scheduler)
    assert seen == {"a": 1, "b": 1, "c": 6}, f"a and b decode, c starts with the 6 tokens that are left; seen: {seen}"


def test_prefill_first_serves_prompts_before_it_decodes():
    """Under "prefill_first", prompts take the budget first, and decoding requests share what is left."""
    scheduler, _ = scheduler_with(4, 4, 15, token_budget=8, policy="prefill_first")
    first = step(scheduler)
    assert first == {"a": 4, "b": 4}, f"a and b use up the budget of 8; seen: {first}"
    seen = [step(scheduler), step(scheduler)]
    assert seen == [{"c": 8}, {"c": 7, "a": 1}], (
        f"c's prompt of 15 takes 8 of 8, then 7, and a decodes with the one left over; seen: {seen}"
    )


def test_at_most_max_rows_run():
    """No more than max_rows requests run at a time; the others wait for their turn, in order."""
    scheduler, requests = scheduler_with(2, 2, 2, max_rows=2)
    first = step(scheduler)
    assert first == {"a": 2, "b": 2}, f"with max_rows=2, a and b run with their prompts of 2 tokens; seen: {first}"
    scheduler.finish(requests[0])
    seen = step(scheduler)
    assert seen == {"b": 1, "c": 2}, f"a has finished, so c joins b at once; seen: {seen}"


def test_a_recomputed_chunk_samples_only_at_the_last_known_token():
    """After a preemption the output is known as well: a chunk that ends inside it yields no token."""
    scheduler, (request,) = scheduler_with(4, token_budget=8)
    request.output_ids = [7] * 8  # as after a preemption: 12 known tokens, none computed
    request.epoch = 3
    (first,) = scheduler.schedule()
    (second,) = scheduler.schedule()
    assert [first.samples, second.samples] == [False, True], (
        "4 prompt tokens and 8 of the output are known, 8 and 4 of them are computed: only the second row samples; "
        f"seen: {[first.samples, second.samples]}. Compare with num_tokens, not with the length of the prompt"
    )
    assert first.epoch == 3, (
        f"the request's epoch is 3, the row says {first.epoch}; a row remembers its request's epoch"
    )
