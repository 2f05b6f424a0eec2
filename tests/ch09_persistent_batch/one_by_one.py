"""Chapter 7's scheduler and this chapter's, side by side, without a model: the same requests, the same pool."""

import random
from typing import Any

from ch02_continuous_batching import BlockManager, EngineConfig, Request, SamplingParams
from ch07_carry_over import CarryScheduler
from ch09_persistent_batch import ArrayBlocks, ArrayScheduler, SeatedRequest, Seats
from tests.ch09_persistent_batch.watched import Watched

BLOCK_SIZE = 2


def schedules_alike(seed: int, steps: int = 40) -> int:
    """Random requests come; each step's rows are committed with the next one's. Both must say the same of each step.

    Returns how many were preempted.
    """
    rng = random.Random(seed)
    limits = {
        "num_blocks": rng.choice([9, 12, 20]),
        "block_size": BLOCK_SIZE,
        "max_rows": rng.choice([3, 5, 8]),
        "token_budget": rng.choice([6, 12, 40]),
        "policy": rng.choice(["fcfs", "prefill_first"]),
    }
    config = EngineConfig(**limits)
    ones = CarryScheduler(
        BlockManager(config.num_blocks, BLOCK_SIZE), config.max_rows, config.token_budget, config.policy
    )
    arrays = Watched(Seats(config.max_rows, 64, 32), ArrayBlocks(config.num_blocks, BLOCK_SIZE), config)
    both: list[tuple[Any, type[Request]]] = [(ones, Request), (arrays, SeatedRequest)]
    number = num_preempted = 0
    before: tuple[Any, Any] = ((), ())
    running: set[str] = set()
    for step in range(steps):
        while rng.random() < 0.5 and number < 12:
            prompt, params = [*range(rng.randrange(1, 7))], SamplingParams(max_tokens=rng.randrange(1, 9))
            for scheduler, kind in both:
                scheduler.add(kind(str(number), list(prompt), params, arrival=number))
            number += 1
        rows = tuple(scheduler.schedule() for scheduler, _ in both)
        seen = [[(r.request.request_id, r.start, r.num_tokens, r.samples) for r in each] for each in rows]
        queues = [
            [[r.request_id for r in scheduler.waiting], [r.request_id for r in scheduler.running]]
            for scheduler, _ in both
        ]
        num_preempted += len(set(queues[0][0]) & running)
        running = set(queues[0][1])
        assert sorted(seen[0]) == sorted(seen[1]) and queues[0] == queues[1], (
            f"limits {limits}, step {step}: from request to request the rows (request, start, tokens, samples) are "
            f"{sorted(seen[0])}, and waiting and running are {queues[0]}; as arrays they are {sorted(seen[1])}, and "
            f"{queues[1]}"
        )
        commit(ones, before[0])
        commit_arrays(arrays, before[1])
        before = rows
    return num_preempted


def commit(scheduler: CarryScheduler, rows: list[Any]) -> None:
    for row in rows:
        if row.samples and row.epoch == row.request.epoch:
            row.request.pending_samples -= 1
            row.request.output_ids.append(1)
            if len(row.request.output_ids) >= row.request.params.max_tokens:
                scheduler.finish(row.request)


def commit_arrays(scheduler: ArrayScheduler, rows: Any) -> None:
    for alive, row in zip(rows.alive.tolist() if len(rows) else (), rows, strict=True):
        if row.samples and alive:
            seat = row.request.seat
            scheduler.seats.known[seat] += 1
            if scheduler.seats.known[seat] >= scheduler.seats.limit[seat]:
                scheduler.finish(row.request)
