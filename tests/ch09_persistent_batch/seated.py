"""Seats with requests in them, and a scheduler over them, without a model."""

from typing import Any

import numpy as np

from ch02_continuous_batching import EngineConfig, SamplingParams
from ch09_persistent_batch import ArrayBlocks, ArrayScheduler, SeatedRequest, Seats

BLOCK_SIZE = 4
HANDED_OUT = (5, 2, 7, 0, 6, 3, 1, 4)  # in this order: no seat's number is that of its row, as after a long run


def request(number: int, prompt_length: int, max_tokens: int = 8, **params: Any) -> SeatedRequest:
    """A request named a, b, c, ... by its number; its tokens are 100 * number and so on."""
    prompt = [100 * number + position for position in range(prompt_length)]
    return SeatedRequest("abcdefghij"[number], prompt, SamplingParams(max_tokens=max_tokens, **params), arrival=number)


def empty_seats(max_rows: int = 8) -> Seats:
    seats = Seats(max_rows, max_length=64, width=16)
    order = [seat for seat in HANDED_OUT if seat < max_rows] + [*range(len(HANDED_OUT), max_rows)]
    seats.free = order[::-1]  # the last one goes first
    return seats


def seats_with(*prompt_lengths: int, max_rows: int = 8, **params: Any) -> tuple[Seats, list[SeatedRequest]]:
    """Seats in which requests sit, one for each prompt length, in order of arrival; nothing is computed yet."""
    seats = empty_seats(max_rows)
    requests = [request(number, length, **params) for number, length in enumerate(prompt_lengths)]
    for each in requests:
        seats.join(each)
    return seats, requests


def scheduler_with(
    *prompt_lengths: int,
    num_blocks: int = 64,
    max_rows: int = 8,
    token_budget: int = 32,
    policy: str = "fcfs",
    make: type[ArrayScheduler] = ArrayScheduler,
) -> tuple[ArrayScheduler, list[SeatedRequest]]:
    """A scheduler with one waiting request for each prompt length."""
    seats = empty_seats(max_rows)
    config = EngineConfig(num_blocks, BLOCK_SIZE, max_rows, token_budget, policy)  # type: ignore[arg-type]
    scheduler = make(seats, ArrayBlocks(num_blocks, BLOCK_SIZE), config)
    requests = [request(number, length) for number, length in enumerate(prompt_lengths)]
    for each in requests:
        scheduler.add(each)
    return scheduler, requests


def decoding(scheduler: ArrayScheduler, *seats: int) -> None:
    """As if what was scheduled had been committed: each of these seats knows one token more."""
    for seat in seats:
        scheduler.seats.known[seat] = scheduler.seats.promised[seat]


def array(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)
