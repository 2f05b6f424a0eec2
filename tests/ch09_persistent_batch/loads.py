"""Random loads, run through chapter 8's engine and through this chapter's, and everything that their callers see."""

import random
from collections.abc import Callable
from typing import Any

from ch02_continuous_batching import SamplingParams
from tests.helpers import tiny_model, tiny_tokenizer

REQUESTS = 24
STEP_LIMIT = 400


class Planted(Exception):
    """An error that a load plants."""


def run(make: Callable[..., Any], seed: int, with_faults: bool = False) -> list[Any]:
    """Each step's outputs and what the queues look like after it, and the metrics at the end.

    Everything about the load follows from its seed: limits, policies, prompts with and without common beginnings,
    sampling, stop strings, cancelled requests, forgotten prefixes, and, if asked for, steps that raise.
    """
    from toolkit import simgpu

    rng = random.Random(seed)
    simgpu.reset(rng.choice(["eager", "lazy", f"random:{seed}"]))
    engine = make(tiny_model(), tiny_tokenizer(), **limits(rng))
    if with_faults:
        plant(engine, rng)
    common = [rng.randrange(3, 60) for _ in range(12)]
    longest = min(engine.entrance.max_length, engine.entrance.config.num_blocks * engine.entrance.config.block_size)
    seen: list[Any] = []
    added = 0
    for _ in range(STEP_LIMIT):
        while added < REQUESTS and rng.random() < 0.3:
            prompt = common[: rng.choice([0, 0, 4, 9, 12])] + [rng.randrange(3, 60) for _ in range(rng.randrange(1, 9))]
            params = random_params(rng)
            if len(prompt) + params.max_tokens <= longest:
                engine.add_request(str(added), prompt, params)
                added += 1
        if added and rng.random() < 0.05:
            engine.cancel(str(rng.randrange(added)))
        if rng.random() < 0.02:
            engine.forget_prefixes()
        seen.append([*engine.step()])
        scheduler = engine.scheduler
        running, waiting = ([r.request_id for r in queue] for queue in (scheduler.running, scheduler.waiting))
        seen.append(
            (engine.num_steps, running, waiting, scheduler.blocks.num_free_blocks, scheduler.blocks.num_shared_tokens)
        )
        if added == REQUESTS and not engine.has_work:
            break
    assert not engine.has_work, f"after {STEP_LIMIT} steps there is still work"
    metrics = engine.metrics
    seen.append((metrics.tokens, dict(metrics.finished), metrics.steps, len(metrics.first_token_ms)))
    return seen


def limits(rng: random.Random) -> dict[str, Any]:
    block_size, num_blocks = rng.choice([2, 4, 8]), rng.choice([14, 24, 60])
    return {
        "block_size": block_size,
        "num_blocks": num_blocks,
        "max_rows": rng.choice([2, 4, 8]),
        "token_budget": rng.choice([5, 16, 64]),
        "max_length": min(60, block_size * num_blocks),
        "policy": rng.choice(["fcfs", "prefill_first"]),
        "asynchronous": rng.random() < 0.7,
        "prefix_sharing": rng.random() < 0.6,
    }


def random_params(rng: random.Random) -> SamplingParams:
    return SamplingParams(
        max_tokens=rng.randrange(1, 14),
        temperature=rng.choice([0.0, 0.0, 0.9]),
        top_k=rng.choice([0, 5]),
        top_p=rng.choice([1.0, 0.9]),
        seed=rng.randrange(1000),
        stop=("e",) if rng.random() < 0.1 else (),
        ignore_eos=rng.random() < 0.5,
    )


def plant(engine: Any, rng: random.Random) -> None:
    """Now and then a launch or a wait raises."""
    for name in ("launch", "wait"):
        method = getattr(engine.executor, name)

        def sometimes(*arguments: Any, method: Callable[..., Any] = method) -> Any:
            if rng.random() < 0.04:
                raise Planted("planted by the test")
            return method(*arguments)

        setattr(engine.executor, name, sometimes)
    recover = engine.recover

    def only_planted(error: Exception) -> None:
        if not isinstance(error, Planted):
            raise error
        recover(error)

    engine.recover = only_planted
