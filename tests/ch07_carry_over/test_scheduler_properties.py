"""Every scheduler of the course under random loads: no request starves, no block is lost, no limit is exceeded.

Without a model: a step brings each row that sampled one token. Batches in flight are committed as an engine does it,
one or two at a time, and requests end at random or with their length.
"""

import random
from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch02_continuous_batching import Batch, BlockManager, Request, Row, SamplingParams, Scheduler
from ch05_double_buffering import HalfBatchScheduler
from ch07_carry_over import CarryScheduler, apply_carry, carry_index
from ch08_full_engine import PrefixBlockManager, PrefixScheduler

MOST_STEPS = 3000  # some ten times what any of these loads takes


@pytest.mark.parametrize(
    ("scheduler_class", "max_in_flight"),
    [
        (Scheduler, 1),
        (HalfBatchScheduler, 2),
        (CarryScheduler, 1),
        (CarryScheduler, 2),
        (PrefixScheduler, 1),
        (PrefixScheduler, 2),
    ],
)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_all_requests_finish(scheduler_class: type[Scheduler], max_in_flight: int, seed: int):
    """Under any arrivals, lengths and limits every request ends, within its limit, and all blocks come back."""
    rng = random.Random(seed)
    block_size = rng.choice([1, 2, 4])
    requests = [
        Request(str(i), prompt(rng), SamplingParams(max_tokens=rng.randint(1, 10)), arrival=i)
        for i in range(rng.randint(1, 8))
    ]
    largest = max(-(-(len(r.prompt_ids) + r.params.max_tokens) // block_size) for r in requests)
    num_blocks = largest + rng.randint(0, 6)
    policy = rng.choice(["fcfs", "prefill_first"])
    blocks = (PrefixBlockManager if scheduler_class is PrefixScheduler else BlockManager)(num_blocks, block_size)
    scheduler = scheduler_class(blocks, rng.randint(1, 6), rng.randint(1, 20), policy)
    arrivals = deque(sorted((rng.randint(0, 10), i) for i in range(len(requests))))
    in_flight: deque[list[Row]] = deque()
    for step in range(MOST_STEPS):
        while arrivals and arrivals[0][0] <= step:
            scheduler.add(requests[arrivals.popleft()[1]])
        rows = scheduler.schedule()
        check_step(rows, scheduler, block_size)
        if rows:
            in_flight.append(rows)
        if in_flight and (len(in_flight) == max_in_flight or not rows):
            commit(in_flight.popleft(), scheduler, rng)
        if not (arrivals or scheduler.waiting or scheduler.running or in_flight):
            break
    else:
        pytest.fail(f"after {MOST_STEPS} steps there is still work: requests wait for each other, or starve")
    assert scheduler.blocks.num_free_blocks == num_blocks, "all requests have ended, but not all blocks are free"
    assert all(1 <= len(r.output_ids) <= r.params.max_tokens for r in requests)


def prompt(rng: random.Random) -> list[int]:
    """Some begin alike, so that blocks can be shared."""
    return [1] * rng.randint(1, 8) + [rng.randint(1, 2) for _ in range(rng.randint(0, 4))]


def check_step(rows: list[Row], scheduler: Scheduler, block_size: int) -> None:
    assert sum(row.num_tokens for row in rows) <= scheduler.token_budget, f"the step exceeds its token budget: {rows}"
    assert scheduler.tokens_in_step == sum(row.num_tokens for row in rows)
    assert len({id(row.request) for row in rows}) == len(rows) <= scheduler.max_rows, f"a request has two rows: {rows}"
    for row in rows:
        owned = len(row.request.block_table) * block_size
        assert owned >= row.start + row.num_tokens, f"{row} computes beyond the {owned} positions of its blocks"


def commit(rows: list[Row], scheduler: Scheduler, rng: random.Random) -> None:
    for row in rows:
        request = row.request
        if isinstance(scheduler.blocks, PrefixBlockManager) and row.epoch == request.epoch:
            scheduler.blocks.mark_written(row)
        if row.samples and row.epoch == request.epoch:
            request.pending_samples -= 1
            request.output_ids.append(7)
            if len(request.output_ids) == request.params.max_tokens or rng.random() < 0.05:
                scheduler.finish(request)


def token(request: Request, position: int) -> int:
    """In the test below, which token any request has at any position: all are different, prompts included."""
    return 1000 * (request.arrival + 1) + position


@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_every_token_carried_is_the_right_one(seed: int):
    """Under random arrivals, preemptions, ends and cancels in flight, each row computes its own request's tokens.

    The device is a list here: the sampled ids of a batch are known when it is launched, and to the host a step later.
    """
    rng = random.Random(seed)
    scheduler = CarryScheduler(BlockManager(rng.randint(8, 30), 2), rng.randint(1, 5), rng.randint(2, 12))
    previous: Batch | None = None
    sampled: list[int] = []
    arrivals = 0
    for _ in range(60):
        if rng.random() < 0.4 and len(scheduler.waiting) < 4:
            request = Request("always the same name", [], SamplingParams(max_tokens=rng.randint(1, 6)), arrivals)
            request.prompt_ids += [token(request, position) for position in range(rng.randint(1, 9))]
            scheduler.add(request)
            arrivals += 1
        if scheduler.running and rng.random() < 0.2:
            rng.choice([scheduler.preempt, scheduler.finish])(rng.choice(scheduler.running))
        rows = tuple(sorted(scheduler.schedule(), key=lambda row: row.num_tokens > 1))
        batch = Batch(0, rows, inputs=None)
        wanted = [token(row.request, row.start + i) for row in rows for i in range(row.num_tokens)]
        packed = [each for row in rows for each in row.request.token_ids(row.start, row.start + row.num_tokens)]
        index = carry_index(rows, previous if previous and previous.rows else None)
        computed = apply_carry(torch.tensor(packed), torch.tensor(index), torch.tensor(sampled or [0])) if rows else []
        assert list(computed) == wanted, f"rows {rows}, carry index {index}: computed {computed}, right are {wanted}"
        if previous is not None:
            for row, token_id in zip(previous.sampling_rows, sampled, strict=True):
                if row.epoch == row.request.epoch:
                    row.request.pending_samples -= 1
                    row.request.output_ids.append(token_id)
                    if len(row.request.output_ids) == row.request.params.max_tokens or rng.random() < 0.1:
                        scheduler.finish(row.request)
        previous, sampled = batch, [token(row.request, row.start + row.num_tokens) for row in batch.sampling_rows]
