"""A request is preempted with a row of it in flight: what must come of it, and what to say where it does not."""

import traceback
from collections.abc import Callable
from typing import Any

import pytest

from ch02_continuous_batching import Request, RequestStatus
from tests.causes import likely
from tests.ch08_full_engine.museum_runs import add_prompts, failed, in_short, run_on, take
from tests.simulated import expected

DROPPED = ". What becomes of that row, and of its token?"


def check_preempted_at(engine: Any, *steps: int, wait: bool = False) -> None:
    """Run some prompts; after these steps preempt the request that arrived last, with its batch in flight.

    It is let in again at once or, with `wait`, a step later: until then all free blocks are taken. All tokens have to
    be right.
    """
    outputs: dict[str, list[int]] = {}
    add_prompts(engine, count=4)
    request, free, done, cause = engine.book.requests["3"], engine.scheduler.blocks.free_blocks, 0, ""
    try:
        for step in steps:
            while done < step:
                take(engine.step(), outputs)
                done += 1
            if not any(row.request is request for batch, _ in engine.in_flight for row in batch.rows):
                pytest.fail(f"after step {step} no row of request '3' is in flight, and it has not ended{cause}")
            cause = preempt(engine.scheduler, engine.scheduler.preempt, request)
        if wait:
            taken = list(free)
            free.clear()
            take(engine.step(), outputs)
            free.extend(taken)
        run_on(engine, outputs)
    except AssertionError as error:
        raise failed(f"{error}{cause}", error) from error
    except Exception as error:
        through = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
        ended = {"commit_tokens", "finish"} <= through and request in engine.scheduler.waiting
        also = likely((ended, f". It waits, and commit has finished it all the same, as if it ran{DROPPED}"))
        raise failed(
            f"request '3' was preempted after step {step}, with a row of it in flight, and then a step ended with "
            f"{in_short(error)}{cause}{also}",
            error,
        ) from error
    for name, right in zip("0123", expected(), strict=False):
        seen = outputs.get(name, [])
        first = next((i for i, (a, b) in enumerate(zip(seen, right, strict=False)) if a != b), len(right))
        twice = 0 < first < len(seen) and seen[first] == seen[first - 1] and seen[:first] == right[:first]
        what = f"token {seen[first]} came twice, at places {first - 1} and {first}; " if twice else ""
        also = DROPPED if name == "3" else f". It is not request {name!r} that was preempted"
        assert seen == right, (
            f"request {name!r}: {what}its tokens differ from generate's: {seen}, right is {right}. Request '3' was "
            f"preempted after step {step}, while a batch with a row of it was in flight{cause or also}"
        )


def preempt(scheduler: Any, method: Callable[[Request], None], request: Request) -> str:
    """Call the scheduler's `preempt` and look at what it has left.

    Returns:
        what is not as it should be, for the end of a message, or "". Whether the epoch is right shows in the tokens.
    """
    name = request.request_id
    try:
        method(request)
    except Exception as error:
        raise failed(
            f"preempt, for request {name!r}, which was running, ended with {in_short(error)}", error
        ) from error
    return likely(
        (
            request.status is not RequestStatus.WAITING,
            f". After preempt the status of {name!r} was {request.status.value}",
        ),
        (request not in scheduler.waiting, f". After preempt {name!r} was not in the queue `waiting`"),
        (scheduler.waiting.count(request) > 1, f". After preempt {name!r} was in the queue `waiting` more than once"),
        (request in scheduler.running, f". After preempt {name!r} was still in the list `running`"),
        (bool(request.block_table), f". After preempt {name!r} still had the blocks {request.block_table}"),
        (
            request.num_computed_tokens != 0,
            f". After preempt {request.num_computed_tokens} tokens of {name!r} counted as computed, with no block to "
            "hold their keys and values",
        ),
        (
            request.pending_samples != 0,
            f". After preempt pending_samples of {name!r} was {request.pending_samples}: the scheduler counts on that "
            "many tokens in flight",
        ),
    )
