"""A scheduler under test, and the engine's part around it, without a model."""

from ch02_continuous_batching import BlockManager, Request, SamplingParams, Scheduler
from ch02_continuous_batching.scheduler import Row
from tests.causes import has_result
from tests.words import counted

BLOCK_SIZE = 4


class Watched(Scheduler):
    """Says so where a `return` is missing, instead of what becomes of it later."""

    def num_tokens_for(self, request: Request) -> int:
        num_tokens = super().num_tokens_for(request)
        has_result(num_tokens, "num_tokens_for")
        left = self.token_budget - self.tokens_in_step
        assert num_tokens or request.num_uncomputed_tokens <= 0 or left <= 0, (
            f"{counted(left, 'token')} of the step's budget {'is' if left == 1 else 'are'} left, and num_tokens_for "
            f"gives {request.request_id} none of its {request.num_uncomputed_tokens} uncomputed ones: a part of them, "
            "a chunk, is what fits"
        )
        return num_tokens

    def _row(self, request: Request, num_tokens: int) -> Row:
        row = super()._row(request, num_tokens)
        has_result(row, "_row")
        return row

    def make_room(self, request: Request, num_tokens: int, rows: list[Row]) -> bool:
        wanted = request.num_computed_tokens + num_tokens
        room = super().make_room(request, num_tokens, rows)
        assert room is not None or len(request.block_table) * BLOCK_SIZE < wanted, (
            f"make_room has found {counted(len(request.block_table), 'block')} for {request.request_id}'s "
            f"{counted(wanted, 'token')} and "
            "then returned None, which counts as False, so the request sits out: is `return True` missing?"
        )
        return room


def scheduler_with(
    *prompt_lengths: int, num_blocks: int = 64, max_rows: int = 8, token_budget: int = 16, policy: str = "fcfs"
) -> tuple[Scheduler, list[Request]]:
    """A scheduler whose waiting queue holds one request per prompt length, named a, b, c, ..."""
    scheduler = Watched(BlockManager(num_blocks, BLOCK_SIZE), max_rows, token_budget, policy)
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
