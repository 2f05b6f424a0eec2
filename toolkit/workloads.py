"""Seeded workloads: what arrives at an engine, how long each prompt is, how many tokens it asks for.

Prompts are random token ids: a timing needs lengths, not meaning. The same arguments give the same workload on every
machine; Python's own `random.Random` promises that, torch's generators do not.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class WorkloadItem:
    """One request to come: its prompt, the number of new tokens it asks for, and the step at which it arrives."""

    prompt_ids: list[int]
    max_tokens: int
    arrival_step: int = 0


def fixed(n: int, prompt_len: int, new_tokens: int, *, vocab_size: int, seed: int = 0) -> list[WorkloadItem]:
    """`n` requests of equal shape, all there from the start."""
    return ragged(n, (prompt_len, prompt_len), (new_tokens, new_tokens), vocab_size=vocab_size, seed=seed)


def ragged(
    n: int, prompt_len: tuple[int, int], new_tokens: tuple[int, int], *, vocab_size: int, seed: int = 0
) -> list[WorkloadItem]:
    """`n` requests, all there from the start, with lengths drawn evenly from ranges.

    Args:
        prompt_len: shortest and longest prompt, both included; at least 1.
        new_tokens: smallest and largest number of new tokens, both included; at least 1.
        vocab_size: prompt ids are drawn from 0 .. vocab_size - 1.
    """
    for name, (low, high) in {"prompt_len": prompt_len, "new_tokens": new_tokens}.items():
        if not 1 <= low <= high:
            raise ValueError(f"{name} must be a range of at least 1, got {low} to {high}")
    rng = random.Random(seed)
    items = []
    for _ in range(n):
        length, tokens = rng.randint(*prompt_len), rng.randint(*new_tokens)
        items.append(WorkloadItem([rng.randrange(vocab_size) for _ in range(length)], tokens))
    return items


def arriving(items: Sequence[WorkloadItem], per_step: float, *, seed: int = 0) -> list[WorkloadItem]:
    """The same requests in the same order, arriving over time: at each step a Poisson-distributed number of them.

    Args:
        per_step: how many arrive at a step on average; above 0.
    """
    if not per_step > 0:
        raise ValueError(f"per_step must be above 0, got {per_step}")
    rng = random.Random(seed)
    arrived: list[WorkloadItem] = []
    step = 0
    while len(arrived) < len(items):
        for _ in range(min(_poisson(per_step, rng), len(items) - len(arrived))):
            arrived.append(replace(items[len(arrived)], arrival_step=step))
        step += 1
    return arrived


def _poisson(mean: float, rng: random.Random) -> int:
    """Knuth's method: count the uniform numbers whose product stays above e to the minus mean."""
    count, product, floor = 0, rng.random(), math.exp(-mean)
    while product > floor:
        count += 1
        product *= rng.random()
    return count
