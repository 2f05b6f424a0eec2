"""Exercise 2.3: who makes room."""

from collections import deque
from collections.abc import Iterator

import pytest

from ch02_continuous_batching import Request, RequestStatus, Scheduler
from ch02_continuous_batching.scheduler import Row
from tests.causes import likely
from tests.ch02_continuous_batching.scheduling import BLOCK_SIZE, commit, scheduler_with, shares, step
from tests.endless import must_end
from tests.words import counted

pytestmark = pytest.mark.exercise("2.3")


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    """The longest of these tests needs 4,000 lines of the chapter."""
    with must_end(lines=100_000):
        yield


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
        f"requests has {counted(len(scheduler.running), 'entry', 'entries')}. One that stays in it is chosen as a "
        "victim again and again"
    )
    assert scheduler.blocks.num_free_blocks == 64, "a preempted request must give back all its blocks"
    assert request.output_ids == output, (
        f"output {output} was delivered already; after preemption it is {request.output_ids}"
    )
    assert request.num_computed_tokens == 0, (
        f"its keys and values are gone, so 0 tokens are computed; it says {request.num_computed_tokens}"
    )
    assert request.pending_samples == 0, (
        f"its row in flight will be dropped, but {counted(request.pending_samples, 'sample is', 'samples are')} pending"
    )
    assert request.epoch == epoch + 1, (
        f"the row in flight carries epoch {epoch}; so that commit can tell it apart, the request must move on to "
        f"{epoch + 1}, but has {request.epoch}. Otherwise a token is appended twice"
    )
    assert list(scheduler.waiting) == [request], (
        "it has to come back, so it belongs in the waiting queue, which has "
        f"{counted(len(scheduler.waiting), 'entry', 'entries')}: see `add`"
    )
    seen = [(row.start, row.num_tokens, row.samples) for row in scheduler.schedule()]
    assert seen == [(0, 8, True)], (
        "it comes back with prompt (5) and output (3) as one prompt of 8 tokens: a row with (start, num_tokens, "
        f"samples) (0, 8, True); seen: {seen}"
    )


def test_the_latest_arrival_makes_room():
    """When blocks run out, the request that came last gives its blocks up, and no more than needed do."""
    scheduler, (a, b, c) = scheduler_with(4, 4, 4, num_blocks=6)
    step(scheduler)  # 3 blocks owned, all full
    scheduler.blocks.free_blocks.clear()  # as if another request had taken the other 3
    seen = step(scheduler)
    assert c.status is RequestStatus.WAITING and c.block_table == [], (
        f"a needed one more block and none was free: c, the latest, should have been preempted. "
        f"Seen: rows {seen}, c is {c.status.value} with blocks {c.block_table}"
    )
    assert b.block_table != [], f"c's one block was enough for a; b had to keep its own, but was preempted too ({seen})"


def crowded() -> tuple[Scheduler, list[Request]]:
    """Four running requests with one full block each, and no free block. The last one has a part of its prompt."""
    scheduler, requests = scheduler_with(4, 4, 4, 30, token_budget=16)
    step(scheduler)
    scheduler.blocks.free_blocks.clear()
    return scheduler, requests


@pytest.mark.parametrize(("num_tokens", "preempted"), [(4, "d"), (5, "dc"), (12, "dcb")])
def test_as_many_make_room_as_needed(num_tokens: int, preempted: str):
    """Where one victim's block is not enough, the next one follows, in reverse order of arrival."""
    scheduler, requests = crowded()
    room = scheduler.make_room(requests[0], num_tokens, [])
    seen = "".join(r.request_id for r in reversed(requests) if r.status is RequestStatus.WAITING)
    missing = -(-num_tokens // BLOCK_SIZE)
    assert seen == preempted, (
        f"a owns 1 block and needs {missing} more, of a, b, c and d each owns 1, and none is free: {preempted} had to "
        f"be preempted; seen: {seen or 'none'}. "
    ) + likely(
        (len(seen) < len(preempted), "Look for a new victim until the blocks suffice"),
        (len(seen) > len(preempted), "Only as many as are needed"),
        otherwise="The latest arrival goes first, also in the middle of its prompt",
    )
    assert room and len(requests[0].block_table) == 1 + missing, (
        f"with {preempted} preempted there is room; make_room returned {room}, and a owns "
        f"{counted(len(requests[0].block_table), 'block')}, not {1 + missing}"
    )


def test_a_victim_may_come_before_one_that_has_a_row():
    """If the latest arrival has a row in this step, the latest of the others makes room."""
    scheduler, requests = crowded()
    d = requests[3]
    room = scheduler.make_room(requests[0], 1, [Row(d, d.epoch, 0, 4, False)])
    statuses = {r.request_id: r.status.value for r in requests}
    assert d.status is RequestStatus.RUNNING, f"d has a row in this step and is no victim; seen: {statuses}"
    assert requests[2].status is RequestStatus.WAITING and room, (
        f"a needs a block; d, the last of the running ones, has a row in this step, so c had to make room; seen: "
        f"{statuses}, and make_room returned {room}. Look through all running requests, not at the last one only"
    )


def test_an_earlier_request_is_never_preempted_for_a_later_one():
    """A request may take blocks only from those that came after it; else it sits out the step and keeps its own."""
    scheduler, (a, b) = scheduler_with(3, 4, num_blocks=4)
    step(scheduler)
    scheduler.blocks.free_blocks.clear()
    seen = step(scheduler)  # a's 4th token fits its block, b's 5th does not
    assert seen == {"a": 1}, (
        f"a has room in its block and decodes; b needs a block, none is free, and no request came after it: it sits "
        f"out. Seen: {seen}"
    )
    assert a.status is b.status is RequestStatus.RUNNING and len(b.block_table) == 1, (
        f"no request had to be preempted: a is {a.status.value}, b is {b.status.value} with blocks {b.block_table}"
    )


def prompts_first_with_free_blocks(count: int) -> tuple[Scheduler, list[Request]]:
    """Request a decodes and needs a block; b, which came later but is served first, needs two for its last chunk."""
    scheduler, requests = scheduler_with(4, 9, token_budget=8, policy="prefill_first")
    step(scheduler)  # a's whole prompt and the first 4 tokens of b: one block each, both full
    scheduler.blocks.free_blocks = deque(range(60, 60 + count))
    return scheduler, requests


def test_a_later_request_cannot_take_blocks_from_an_earlier_one():
    """Even where a later request is served first, it makes no earlier one give up its blocks."""
    scheduler, (a, _) = prompts_first_with_free_blocks(1)
    seen = shares(scheduler.schedule())
    assert a.status is RequestStatus.RUNNING and seen == {"a": 1}, (
        f"b was served first and lacked a block, but a came before it: b sits out, a decodes. Seen: rows {seen}, a is "
        f"{a.status.value}. If later requests may take from earlier ones, they can take from each other without end"
    )


def test_a_row_of_this_step_is_not_preempted():
    """Who has a row in this step already is no victim: its keys and values are about to be read."""
    scheduler, (_, b) = prompts_first_with_free_blocks(2)
    seen = shares(scheduler.schedule())
    assert b.status is RequestStatus.RUNNING and seen == {"b": 5}, (
        f"b took the last two blocks for its row, then a needed one: a sits out this step. Seen: rows {seen}, b is "
        f"{b.status.value}. A request that is preempted after it had got its row would compute on blocks of others"
    )


def test_preempted_requests_wait_in_order_of_arrival():
    """Preempted requests come before later ones in the waiting queue, whatever the order of preemption."""
    scheduler, requests = scheduler_with(4, 4, 4, 4, max_rows=3)
    step(scheduler)
    for victim in (requests[1], requests[2]):
        scheduler.preempt(victim)
    names = [request.request_id for request in scheduler.waiting]
    assert names == ["b", "c", "d"], (
        f"b and c were preempted, d still waited; the queue should be b, c, d and is {names}"
    )
    assert [request.request_id for request in scheduler.running] == ["a"], "a preempted request does not run any more"


@pytest.mark.parametrize("policy", ["fcfs", "prefill_first"])
@pytest.mark.parametrize("num_blocks", [5, 7, 11])
def test_all_requests_finish_in_a_pool_that_is_too_small(policy: str, num_blocks: int):
    """With far too few blocks for all at once, every request still gets its tokens, and no block is lost."""
    scheduler, requests = scheduler_with(7, 3, 9, 5, 1, num_blocks=num_blocks, token_budget=6, policy=policy)
    for _ in range(2000):
        rows = scheduler.schedule()
        for row in rows:
            name, owned = row.request.request_id, len(row.request.block_table)
            needed = row.start + row.num_tokens
            assert owned * BLOCK_SIZE >= needed, (
                f"a row of request {name} reaches position {needed - 1}, but {name} owns {counted(owned, 'block')} of "
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
        "If none moves, requests wait for each other's blocks, or take them from each other without end"
    )
    assert scheduler.blocks.num_free_blocks == num_blocks, (
        f"all have finished, but {num_blocks - scheduler.blocks.num_free_blocks} blocks are missing from the pool"
    )


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
