"""Exercise 7.3, and the asynchronous engine as a whole: the same tokens, with no gap."""

from collections.abc import Sequence
from functools import partial

import pytest

from ch02_continuous_batching import Batch, BlockManager, FinishReason, Request, Row, SamplingParams
from ch05_double_buffering.build import build as chapter_5
from ch07_carry_over import CarryPacker, CarryScheduler
from ch07_carry_over.build import build
from tests.helpers import swapped, tiny_model
from tests.simulated import (
    MAX_TOKENS,
    POLICIES,
    PROMPTS,
    Seen,
    assert_no_race,
    assert_tokens_right,
    expected,
    needs_simulator,
    overlap_ms,
    run_simulated,
)


def brief(rows: Sequence[Row]) -> list[tuple[int, int, bool]]:
    """(start, number of tokens, samples) of each row."""
    return [(row.start, row.num_tokens, row.samples) for row in rows]


class WatchedPacker(CarryPacker):
    """Names the row that has no token to begin with: `CarryScheduler` has scheduled it, and nothing can fill it in."""

    def pack(self, step: int, rows: Sequence[Row], previous: Batch | None) -> Batch:
        sampled = set() if previous is None else {(row.request, row.epoch) for row in previous.sampling_rows}
        for row in rows:
            request, last = row.request, row.start + row.num_tokens - 1
            assert last < request.num_tokens or (request, row.epoch) in sampled, (
                f"request {request.request_id!r} was scheduled with the row (start, tokens, samples) "
                f"{brief([row])[0]}. "
                f"The host knows its first {request.num_tokens} tokens, and no row in flight samples the one at "
                f"position {last}: exercise 7.3 schedules what is known and what is pending, pending_samples, which is "
                f"{request.pending_samples} by now"
            )
        return super().pack(step, rows, previous)


watched = swapped(build, CarryPacker=WatchedPacker)
watched_synchronous = partial(watched, asynchronous=False)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return run_simulated(watched)


# --- 7.3: tokens in flight are scheduled ---


def scheduler_with(prompt: int, max_tokens: int, token_budget: int = 16) -> tuple[CarryScheduler, Request]:
    scheduler = CarryScheduler(BlockManager(64, 4), max_rows=4, token_budget=token_budget)
    request = Request("a", list(range(prompt)), SamplingParams(max_tokens=max_tokens), arrival=0)
    scheduler.add(request)
    return scheduler, request


@pytest.mark.exercise("7.3")
def test_a_token_in_flight_is_scheduled():
    """With a sample pending, the next step computes that token: one row of one token, which samples again."""
    scheduler, _ = scheduler_with(prompt=5, max_tokens=9)
    scheduler.schedule()
    rows = scheduler.schedule()
    seen = brief(rows)
    causes = {
        (): ". Count the pending sample as a token",
        ((5, 1, False),): ". It ends with the last token, so it samples",
    }
    assert seen == [(5, 1, True)], (
        "the prompt's 5 tokens are in flight and will sample the token at position 5; the next step can compute it "
        f"already, as a row (start 5, 1 token, samples). Seen: {seen}{causes.get(tuple(seen), '')}"
    )


@pytest.mark.exercise("7.3")
def test_a_request_that_will_be_full_is_not_scheduled():
    """Outputs and pending samples together never exceed max_tokens: the end by length is known beforehand."""
    scheduler, request = scheduler_with(prompt=5, max_tokens=2)
    before = [brief(scheduler.schedule()) for _ in range(2)]
    rows = scheduler.schedule()
    assert rows == [], (
        f"max_tokens is 2, and 2 samples are pending: there is nothing left to compute. Seen: {brief(rows)}. "
        "Compare len(output_ids) + pending_samples with max_tokens"
    )
    assert before == [[(0, 5, True)], [(5, 1, True)]] and request.pending_samples == 2, (
        "max_tokens is 2: the prompt is scheduled, then its token in flight, and two rows in flight will sample; seen "
        f"(start, tokens, samples): {before}, and the request says that {request.pending_samples} will"
    )


@pytest.mark.exercise("7.3")
def test_every_pending_sample_counts():
    """Nothing is ever committed: one token in flight follows the other, each in a row of its own."""
    scheduler, _ = scheduler_with(prompt=5, max_tokens=4)
    seen = [(row.start, row.num_tokens, row.samples) for _ in range(5) for row in scheduler.schedule()]
    assert seen == [(0, 5, True), (5, 1, True), (6, 1, True), (7, 1, True)], (
        f"5 prompt tokens, then the 3 in flight that can be computed; seen (start, tokens, samples): {seen}"
        + ". Add pending_samples itself, it may be more than 1" * (seen == [(0, 5, True), (5, 1, True)])
    )


@pytest.mark.exercise("7.3")
def test_a_token_in_flight_costs_its_share_of_the_budget():
    """In a step whose token budget is used up, a request with a sample pending gets 0 tokens, like any other."""
    scheduler, request = scheduler_with(prompt=5, max_tokens=9)
    scheduler.schedule()
    scheduler.tokens_in_step = scheduler.token_budget
    seen = scheduler.num_tokens_for(request)
    assert seen == 0, (
        f"the step has {scheduler.tokens_in_step} of {scheduler.token_budget} tokens already; num_tokens_for gives the "
        f"pending one {seen} more. The budget holds for it, too"
    )


@pytest.mark.exercise("7.3")
def test_an_unfinished_chunk_does_not_sample():
    """A prompt in chunks samples with its last chunk only, and then its token in flight follows."""
    scheduler, _ = scheduler_with(prompt=10, max_tokens=9, token_budget=4)
    seen = [(row.start, row.num_tokens, row.samples) for _ in range(4) for row in scheduler.schedule()]
    assert seen == [(0, 4, False), (4, 4, False), (8, 2, True), (10, 1, True)], (
        f"10 prompt tokens under a budget of 4, then the token in flight; seen (start, tokens, samples): {seen}"
    )


@pytest.mark.exercise("7.3")
def test_preemption_forgets_what_was_in_flight():
    """A request that is preempted with a sample pending comes back with what the host knows, and no more."""
    scheduler, request = scheduler_with(prompt=5, max_tokens=9)
    scheduler.schedule()
    scheduler.schedule()
    scheduler.preempt(request)
    rows = scheduler.schedule()
    seen = [(*each, row.epoch) for each, row in zip(brief(rows), rows, strict=True)]
    assert seen == [(0, 5, True, 1)], (
        "the two rows in flight will be dropped, so the 5 prompt tokens are computed again; wanted is the row (start "
        f"0, 5 tokens, samples, epoch 1), seen: {seen}"
    )


# --- the whole engine ---


@needs_simulator
@pytest.mark.exercise("7.3")
def test_all_requests_are_in_every_batch(seen: Seen):
    """The asynchronous order needs no more steps than the synchronous one, but for the start: no half batches."""
    few = len(run_simulated(watched_synchronous).recording.steps()) + 1
    steps = len(seen.recording.steps())
    assert steps <= few, (
        f"{steps} steps, where the synchronous order takes {few - 1}: a request sits out steps, or is scheduled after "
        "its last token"
    )


@needs_simulator
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("build", [build, watched_synchronous], ids=["asynchronous", "synchronous"])
def test_right_under_every_policy(build, policy: str):
    """Asynchronous and synchronous order give generate's tokens, in whatever order the device runs."""
    run = run_simulated(build, policy)
    assert_no_race(run)
    assert_tokens_right(run, policy)


@needs_simulator
@pytest.mark.parametrize("num_blocks", [8, 10, 14])
@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
def test_right_under_preemption(num_blocks: int, policy: str):
    """Requests that are preempted in flight lose the token on its way and get it again."""
    run = run_simulated(build, "random:5", num_blocks=num_blocks, policy=policy, token_budget=12)
    assert_no_race(run)
    assert run.outputs == expected()


@needs_simulator
@pytest.mark.parametrize("end", range(MAX_TOKENS))
def test_a_row_that_runs_one_step_too_far_is_dropped(end: int):
    """Wherever an end-of-sequence token comes, the request ends with it, once, and nothing follows."""
    from toolkit import simgpu

    simgpu.reset("random:1")
    engine = build(tiny_model(), num_blocks=60, block_size=4, max_rows=6)
    eos = expected()[2][end]
    engine.book.eos_ids = {eos}
    results = engine.generate(PROMPTS, SamplingParams(max_tokens=MAX_TOKENS))
    for i, (result, right) in enumerate(zip(results, expected(), strict=True)):
        tokens = right[: right.index(eos) + 1] if eos in right else right
        reason = FinishReason.EOS if eos in right else FinishReason.LENGTH
        assert (list(result.output_ids), result.finish_reason) == (tokens, reason), f"prompt {i}, end-of-sequence {eos}"
    assert engine.scheduler.blocks.num_free_blocks == 60 and not engine.in_flight


@needs_simulator
def test_no_step_is_computed_in_vain_for_the_length_limit():
    """A request that ends by length occupies exactly as many sampling rows as it gets tokens."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = build(tiny_model(), num_blocks=60, block_size=4, max_rows=6)
    sampled = []
    commit = engine.book.commit_tokens
    engine.book.commit_tokens = lambda batch, ids: (sampled.append(len(ids)), commit(batch, ids))[1]
    engine.generate(PROMPTS, SamplingParams(max_tokens=MAX_TOKENS))
    assert sum(sampled) == MAX_TOKENS * len(PROMPTS), (
        f"{sum(sampled)} rows sampled for {MAX_TOKENS * len(PROMPTS)} tokens"
    )


@needs_simulator
def test_a_name_may_be_used_again_at_once():
    """A request with the name of one that has just ended gets its own tokens, not the dead one's."""
    from toolkit import simgpu

    simgpu.reset("eager")
    engine = build(tiny_model(), num_blocks=60, block_size=4, max_rows=6)
    engine.book.eos_ids = {expected()[0][3]}
    engine.add_request("same", PROMPTS[0], SamplingParams(max_tokens=MAX_TOKENS))
    finished = []
    for _ in range(60):
        for output in engine.step():
            if output.finish_reason is not None:
                finished.append(list(output.output_ids))
                if len(finished) == 1:
                    engine.add_request("same", PROMPTS[1], SamplingParams(max_tokens=MAX_TOKENS, ignore_eos=True))
        if not engine.has_work:
            break
    assert finished == [expected()[0][:4], expected()[1]]


@needs_simulator
@pytest.mark.overlap
def test_there_is_no_gap(seen: Seen):
    """The device hardly idles, host work overlaps, and a step serves all requests: faster than chapter 5."""
    assert overlap_ms(seen.recording, ("prepare", "commit")) > 0
    assert seen.recording.idle_share() < 0.03
    assert seen.simulated_ms < run_simulated(watched_synchronous).simulated_ms
    assert seen.simulated_ms < run_simulated(chapter_5).simulated_ms
