"""Exercises 2.2 and 2.3: which rows run, and who makes room."""

from collections import deque

import pytest

from ch02_continuous_batching import BlockManager, Request, RequestStatus, SamplingParams, Scheduler
from ch02_continuous_batching.scheduler import Row

BLOCK_SIZE = 4


def scheduler_with(
    *prompt_lengths: int, num_blocks: int = 64, max_rows: int = 8, token_budget: int = 16, policy: str = "fcfs"
) -> tuple[Scheduler, list[Request]]:
    """A scheduler whose waiting queue holds one request per prompt length, named a, b, c, ..."""
    scheduler = Scheduler(BlockManager(num_blocks, BLOCK_SIZE), max_rows, token_budget, policy)
    requests = []
    for i, length in enumerate(prompt_lengths):
        prompt = [100 * i + position for position in range(length)]
        requests.append(Request("abcdefgh"[i], prompt, SamplingParams(max_tokens=50), arrival=i))
        scheduler.add(requests[-1])
    return scheduler, requests


def shares(rows: list[Row]) -> dict[str, int]:
    return {row.request.request_id: row.num_tokens for row in rows}


def commit(rows: list[Row]) -> None:
    """What the engine does after a step, without a model: one token for each row that sampled."""
    for row in rows:
        if row.samples and row.epoch == row.request.epoch:
            row.request.pending_samples -= 1
            row.request.output_ids.append(7)


def step(scheduler: Scheduler) -> dict[str, int]:
    rows = scheduler.schedule()
    commit(rows)
    return shares(rows)


# --- 2.2: the token budget and chunked prefill ---


@pytest.mark.exercise("2.2")
def test_a_step_stays_within_the_token_budget():
    """All rows of a step together compute at most token_budget tokens; what is left over goes to the next request."""
    scheduler, _ = scheduler_with(6, 6, 6, token_budget=16)
    seen = shares(scheduler.schedule())
    assert seen == {"a": 6, "b": 6, "c": 4}, (
        f"prompts of 6, 6 and 6 tokens under a budget of 16 give 6 + 6 + 4; seen: {seen}, "
        f"{sum(seen.values())} in all. Subtract what the rows chosen so far use"
    )


@pytest.mark.exercise("2.2")
def test_a_long_prompt_is_computed_in_chunks():
    """A prompt longer than the budget is cut into chunks that follow each other without gap or overlap."""
    scheduler, _ = scheduler_with(20, token_budget=8)
    chunks = []
    for _ in range(3):
        (row,) = scheduler.schedule()
        chunks.append((row.start, row.num_tokens))
        commit([row])
    assert chunks == [(0, 8), (8, 8), (16, 4)], (
        f"20 prompt tokens under a budget of 8 are the chunks (start, tokens) (0, 8), (8, 8), (16, 4); seen: {chunks}. "
        "A row starts at num_computed_tokens, which moves on by num_tokens when it is scheduled"
    )


@pytest.mark.exercise("2.2")
def test_only_the_last_chunk_samples():
    """A chunk that does not reach the prompt's end yields no token: the next token is known, it is in the prompt."""
    scheduler, (request,) = scheduler_with(20, token_budget=8)
    samples = []
    for _ in range(3):
        (row,) = scheduler.schedule()
        samples.append(row.samples)
        assert request.pending_samples == int(row.samples), (
            f"a row with samples={row.samples} was scheduled, so {int(row.samples)} samples are pending; "
            f"the request says {request.pending_samples}"
        )
        commit([row])
    assert samples == [False, False, True], (
        f"of three chunks only the last one samples; seen: {samples}. "
        "A row samples if it ends with the last token that is known, num_tokens of the request"
    )


@pytest.mark.exercise("2.2")
def test_decode_computes_one_token_per_step():
    """After its prompt, a request computes one token per step: the one that the step before has sampled."""
    scheduler, (request,) = scheduler_with(5)
    assert step(scheduler) == {"a": 5}
    for _ in range(4):
        rows = scheduler.schedule()
        assert [(row.start, row.num_tokens, row.samples) for row in rows] == [(request.num_tokens - 1, 1, True)], (
            f"in decode a row is the newest token alone and samples; seen: {rows}"
        )
        commit(rows)


@pytest.mark.exercise("2.2")
def test_a_token_in_flight_is_not_scheduled():
    """A request whose next token is still being computed sits out: there is nothing to feed the model with yet."""
    scheduler, (a, b) = scheduler_with(5, 20, token_budget=12)
    first = scheduler.schedule()  # a whole, b in part; nothing is committed
    seen = shares(scheduler.schedule())
    assert seen == {"b": 12}, (
        f"the first step ({shares(first)}) is in flight: a waits for its token, b has prompt tokens left and goes on. "
        f"Seen: {seen}. Count tokens as computed when they are scheduled, not when they are committed"
    )


@pytest.mark.exercise("2.2")
def test_first_come_first_served_lets_tokens_flow():
    """Under "fcfs", running requests get their tokens first, and a newcomer's prompt fills the rest of the budget."""
    scheduler, _ = scheduler_with(4, 4, 30, token_budget=8)
    first = step(scheduler)
    assert first == {"a": 4, "b": 4}, f"a and b use up the budget of 8; seen: {first}"
    seen = step(scheduler)
    assert seen == {"a": 1, "b": 1, "c": 6}, f"a and b decode, c starts with the 6 tokens that are left; seen: {seen}"


@pytest.mark.exercise("2.2")
def test_prefill_first_serves_prompts_before_it_decodes():
    """Under "prefill_first", prompts take the budget first, and decoding requests share what is left."""
    scheduler, _ = scheduler_with(4, 4, 15, token_budget=8, policy="prefill_first")
    first = step(scheduler)
    assert first == {"a": 4, "b": 4}, f"a and b use up the budget of 8; seen: {first}"
    seen = [step(scheduler), step(scheduler)]
    assert seen == [{"c": 8}, {"c": 7, "a": 1}], (
        f"c's prompt of 15 takes 8 of 8, then 7, and a decodes with the one left over; seen: {seen}"
    )


@pytest.mark.exercise("2.2")
def test_at_most_max_rows_run():
    """No more than max_rows requests run at a time; the others wait for their turn, in order."""
    scheduler, requests = scheduler_with(2, 2, 2, max_rows=2)
    assert step(scheduler) == {"a": 2, "b": 2}
    scheduler.finish(requests[0])
    seen = step(scheduler)
    assert seen == {"b": 1, "c": 2}, f"a has finished, so c joins b at once; seen: {seen}"


# --- 2.3: preemption ---


@pytest.mark.exercise("2.3")
def test_a_preempted_request_starts_over_and_keeps_its_output():
    """Preemption frees the blocks, forgets what is computed and in flight, keeps the output, advances the epoch."""
    scheduler, (request,) = scheduler_with(5)
    for _ in range(3):
        step(scheduler)
    scheduler.schedule()  # one row in flight
    epoch, output = request.epoch, list(request.output_ids)
    scheduler.preempt(request)
    assert request.status is RequestStatus.WAITING and request not in scheduler.running, (
        f"a preempted request waits and does not run: its status is {request.status.value}, and the list of running "
        f"requests has {len(scheduler.running)} entries. Whoever stays in it is chosen as a victim again and again"
    )
    assert scheduler.blocks.num_free_blocks == 64, "a preempted request must give back all its blocks"
    assert request.output_ids == output, (
        f"output {output} was delivered already; after preemption it is {request.output_ids}"
    )
    assert request.num_computed_tokens == 0, (
        f"its keys and values are gone, so 0 tokens are computed; it says {request.num_computed_tokens}"
    )
    assert request.pending_samples == 0, (
        f"its row in flight will be dropped, but {request.pending_samples} samples are pending"
    )
    assert request.epoch == epoch + 1, (
        f"the row in flight carries epoch {epoch}; so that commit can tell it apart, the request must move on to "
        f"{epoch + 1}, but has {request.epoch}. Otherwise a token is appended twice"
    )
    (row,) = scheduler.schedule()
    assert (row.start, row.num_tokens, row.samples) == (0, 8, True), (
        f"it comes back with prompt (5) and output (3) as one prompt of 8 tokens; seen: {row}"
    )


@pytest.mark.exercise("2.3")
def test_the_latest_arrival_makes_room():
    """When blocks run out, the request that came last gives its blocks up, and no more than needed do."""
    scheduler, (a, b, c) = scheduler_with(4, 4, 4, num_blocks=6)
    step(scheduler)  # 3 blocks owned, all full
    scheduler.blocks.free_blocks.clear()  # as if somebody else had taken the other 3
    seen = step(scheduler)
    assert c.status is RequestStatus.WAITING and c.block_table == [], (
        f"a needed one more block and none was free: c, the latest, should have been preempted. "
        f"Seen: rows {seen}, c is {c.status.value} with blocks {c.block_table}"
    )
    assert b.block_table != [], f"c's one block was enough for a; b had to keep its own, but was preempted too ({seen})"


@pytest.mark.exercise("2.3")
def test_an_earlier_request_is_never_preempted_for_a_later_one():
    """A request may take blocks only from those that came after it; else it sits out the step and keeps its own."""
    scheduler, (a, b) = scheduler_with(3, 4, num_blocks=4)
    step(scheduler)
    scheduler.blocks.free_blocks.clear()
    seen = step(scheduler)  # a's 4th token fits its block, b's 5th does not
    assert seen == {"a": 1}, (
        f"a has room in its block and decodes; b needs a block, none is free, and nobody came after it: it sits out. "
        f"Seen: {seen}"
    )
    assert a.status is b.status is RequestStatus.RUNNING and len(b.block_table) == 1, (
        f"nobody had to be preempted: a is {a.status.value}, b is {b.status.value} with blocks {b.block_table}"
    )


def prompts_first_with_free_blocks(count: int) -> tuple[Scheduler, list[Request]]:
    """Request a decodes and needs a block; b, which came later but is served first, needs two for its last chunk."""
    scheduler, requests = scheduler_with(4, 9, token_budget=8, policy="prefill_first")
    step(scheduler)  # a's whole prompt and the first 4 tokens of b: one block each, both full
    scheduler.blocks.free_blocks = deque(range(60, 60 + count))
    return scheduler, requests


@pytest.mark.exercise("2.3")
def test_a_later_request_cannot_take_blocks_from_an_earlier_one():
    """Even where a later request is served first, it makes no earlier one give up its blocks."""
    scheduler, (a, _) = prompts_first_with_free_blocks(1)
    seen = shares(scheduler.schedule())
    assert a.status is RequestStatus.RUNNING and seen == {"a": 1}, (
        f"b was served first and lacked a block, but a came before it: b sits out, a decodes. Seen: rows {seen}, a is "
        f"{a.status.value}. If later requests may take from earlier ones, they can take from each other for ever"
    )


@pytest.mark.exercise("2.3")
def test_a_row_of_this_step_is_not_preempted():
    """Who has a row in this step already is no victim: its keys and values are about to be read."""
    scheduler, (_, b) = prompts_first_with_free_blocks(2)
    seen = shares(scheduler.schedule())
    assert b.status is RequestStatus.RUNNING and seen == {"b": 5}, (
        f"b took the last two blocks for its row, then a needed one: a sits out this step. Seen: rows {seen}, b is "
        f"{b.status.value}. A request that is preempted after it had got its row would compute on blocks of others"
    )


@pytest.mark.exercise("2.3")
def test_preempted_requests_wait_in_order_of_arrival():
    """Preempted requests stand before later ones in the waiting queue, whatever the order of preemption."""
    scheduler, requests = scheduler_with(4, 4, 4, 4, max_rows=3)
    step(scheduler)
    for victim in (requests[1], requests[2]):
        scheduler.preempt(victim)
    names = [request.request_id for request in scheduler.waiting]
    assert names == ["b", "c", "d"], (
        f"b and c were preempted, d still waited; the queue should be b, c, d and is {names}"
    )
    assert [request.request_id for request in scheduler.running] == ["a"], "a preempted request does not run any more"


@pytest.mark.exercise("2.3")
@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
@pytest.mark.parametrize("num_blocks", [5, 7, 11])
def test_everybody_finishes_in_a_pool_that_is_too_small(policy: str, num_blocks: int):
    """With far too few blocks for all at once, every request still gets its tokens, and no block is lost."""
    scheduler, requests = scheduler_with(7, 3, 9, 5, 1, num_blocks=num_blocks, token_budget=6, policy=policy)
    for _ in range(2000):
        rows = scheduler.schedule()
        for row in rows:
            name, owned = row.request.request_id, len(row.request.block_table)
            needed = row.start + row.num_tokens
            assert owned * BLOCK_SIZE >= needed, (
                f"a row of request {name} reaches position {needed - 1}, but {name} owns {owned} blocks of "
                f"{BLOCK_SIZE}: it lacks blocks. allocate wants the total, what is computed and what is new"
            )
        commit(rows)
        for request in [r for r in scheduler.running if len(r.output_ids) == 10]:
            scheduler.finish(request)
        if not scheduler.waiting and not scheduler.running:
            break
    lengths = {request.request_id: len(request.output_ids) for request in requests}
    assert set(lengths.values()) == {10}, (
        f"each request should end with 10 tokens within 2000 steps; seen: {lengths}. "
        "If none moves, requests wait for each other's blocks, or take them from each other for ever"
    )
    assert scheduler.blocks.num_free_blocks == num_blocks, (
        f"all have finished, but {num_blocks - scheduler.blocks.num_free_blocks} blocks are missing from the pool"
    )


@pytest.mark.exercise("2.2")
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


@pytest.mark.exercise("2.3")
def test_make_room_takes_no_more_than_the_step_needs():
    """A chunk gets blocks for its own tokens, not for the whole prompt."""
    scheduler, (request,) = scheduler_with(20, token_budget=8)
    owned = []
    for _ in range(3):
        scheduler.schedule()
        owned.append(len(request.block_table))
    assert owned == [2, 4, 5], (
        f"8, 16 and 20 tokens take 2, 4 and 5 blocks of 4; seen: {owned}. What is computed and what is new, no more"
    )
