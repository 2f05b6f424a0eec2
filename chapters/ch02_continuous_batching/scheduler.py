"""Which tokens of which requests run in the next step.

Continuous batching: the batch is put together again at every step. A request joins as soon as there is room and leaves
with its last token (Yu et al., "Orca", OSDI 2022). A step computes at most `token_budget` tokens, so that one long
prompt cannot hold up the others' next token: it is cut into chunks, and only the last of them yields a token. A decode
row costs 1. (Chunked prefill: Agrawal et al., "Sarathi-Serve", OSDI 2024.)
"""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ch02_continuous_batching.block_manager import BlockManager
from ch02_continuous_batching.request import Request, RequestStatus

Policy = Literal["fcfs", "prefill_first"]


@dataclass(frozen=True)
class Row:
    """One request's share of a step: its tokens at positions start to start + num_tokens - 1.

    Attributes:
        epoch: the request's epoch when the row was scheduled; by the time of commit it may have moved on.
        samples: whether the row's last token is the last known one, so that the step yields a new token for it.
    """

    request: Request
    epoch: int
    start: int
    num_tokens: int
    samples: bool


class Scheduler:
    """First come, first served, under a budget of tokens, rows and KV blocks.

    Attributes:
        waiting: requests that own no blocks, in order of arrival; the left one is next.
        running: requests that own blocks, in order of arrival. At most `max_rows`.
        tokens_in_step: tokens of the rows that the step being scheduled has so far.
        policy: "fcfs" serves running requests before it admits waiting ones, so tokens keep flowing; "prefill_first"
            serves unfinished prompts and admits waiting requests before it decodes, so first tokens come sooner.
    """

    def __init__(self, blocks: BlockManager, max_rows: int, token_budget: int, policy: Policy = "fcfs") -> None:
        self.blocks = blocks
        self.max_rows = max_rows
        self.token_budget = token_budget
        self.policy = policy
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.tokens_in_step = 0

    def add(self, request: Request) -> None:
        """Put a request into the waiting queue, at its place by arrival: a new one comes last."""
        insort(self.waiting, request, key=lambda waiting: waiting.arrival)

    def schedule(self) -> list[Row]:
        """Choose the rows of the next step, allocate their blocks, and count their tokens as computed.

        Returns:
            at most one row per request, `token_budget` tokens in all; empty if nothing can run.
        """
        rows: list[Row] = []
        self.tokens_in_step = 0
        if self.policy == "fcfs":
            self._serve_running(list(self.running), rows)
            self._admit_waiting(rows)
        else:
            unfinished_prompts = [r for r in self.running if r.num_uncomputed_tokens > 1]
            decoding = [r for r in self.running if r.num_uncomputed_tokens <= 1]
            self._serve_running(unfinished_prompts, rows)
            self._admit_waiting(rows)
            self._serve_running(decoding, rows)
        return rows

    def rows_limit(self) -> int:
        """How many rows the step may have. Chapter 5 halves it."""
        return self.max_rows

    def _serve_running(self, requests: list[Request], rows: list[Row]) -> None:
        """Append a row for each of `requests` that has tokens to compute, as far as budget and blocks reach."""
        for request in requests:
            if len(rows) == self.rows_limit():
                return
            if request.status is not RequestStatus.RUNNING:
                continue  # preempted a moment ago, to make room for an earlier one
            num_tokens = self.num_tokens_for(request)
            if num_tokens > 0 and self.make_room(request, num_tokens, rows):
                self._append_row(request, num_tokens, rows)

    def _admit_waiting(self, rows: list[Row]) -> None:
        """Let waiting requests in, in their order, while there are budget, rows and free blocks for them."""
        while self.waiting and len(self.running) < self.max_rows and len(rows) < self.rows_limit():
            if not self._admit(self.waiting[0], rows):
                return

    def _admit(self, request: Request, rows: list[Row]) -> bool:
        """Let the next waiting request in and append its row, or return False if it has to wait on."""
        num_tokens = self.num_tokens_for(request)
        # Its whole prompt must fit, and one more block for each running request, or it would be thrown out soon.
        spare = self.blocks.num_free_blocks - self.blocks.num_missing_blocks(request, request.num_tokens)
        if num_tokens == 0 or spare < len(self.running):
            return False
        self.waiting.popleft()
        request.status = RequestStatus.RUNNING
        insort(self.running, request, key=lambda running: running.arrival)
        self.blocks.allocate(request, request.num_computed_tokens + num_tokens)
        self._append_row(request, num_tokens, rows)
        return True

    def _append_row(self, request: Request, num_tokens: int, rows: list[Row]) -> None:
        rows.append(self._row(request, num_tokens))
        self.tokens_in_step += num_tokens  # a running sum: adding up all rows for every row takes long

    def num_tokens_for(self, request: Request) -> int:
        """How many tokens of `request` the step can still compute (0 or more).

        All its uncomputed tokens, or, if the part of `token_budget` that the `tokens_in_step` have left over is
        smaller, as many as that (a chunk).
        """
        raise NotImplementedError("ch02 exercise 2: Share the token budget, cut prompts into chunks")

    def _row(self, request: Request, num_tokens: int) -> Row:
        """Make the row for the next `num_tokens` tokens of `request`, and note on the request that it is on its way.

        `num_computed_tokens` moves on at once, not at commit: the next step may be scheduled before this one is done.
        `pending_samples` goes up by 1 if the row samples.
        """
        raise NotImplementedError("ch02 exercise 2: Share the token budget, cut prompts into chunks")

    def make_room(self, request: Request, num_tokens: int, rows: list[Row]) -> bool:
        """Allocate blocks for the next `num_tokens` tokens of a running request, preempting others if it must.

        A victim is the latest arrival among the running requests that came after `request` and have no row in this
        step (their keys and values are about to be used). One at a time, as few as needed.

        Returns:
            False if there are too few blocks and no victim is left; the request then sits out this step.
        """
        raise NotImplementedError("ch02 exercise 3: Preempt when blocks run out")

    def preempt(self, request: Request) -> None:
        """Take a running request's blocks away and let it wait (see `add`), to be recomputed later.

        It keeps its output, so that nothing is generated twice: when it comes back, prompt and output are computed
        like one long prompt, and its next token follows. Rows of it that are in flight must be dropped at commit, so
        its epoch advances and nothing of it is computed or pending any more.
        """
        raise NotImplementedError("ch02 exercise 3: Preempt when blocks run out")

    def finish(self, request: Request) -> None:
        """Take a running request's blocks back for good. Rows of it that are in flight will be dropped at commit."""
        self.blocks.free(request)
        self.running.remove(request)
        request.status = RequestStatus.FINISHED
        request.epoch += 1
        request.pending_samples = 0

    def written(self, rows: Sequence[Row]) -> None:
        """These rows' keys and values are in the cache; chapter 8 gives full blocks names now."""

    def restart(self, requests: Sequence[Request]) -> None:
        """Queue these, in order of arrival, as each one's status says, with nothing computed (see undo.py)."""
        self.waiting = deque(request for request in requests if request.status is RequestStatus.WAITING)
        self.running = [request for request in requests if request.status is RequestStatus.RUNNING]
        for request in requests:
            request.block_table.clear()
            request.num_computed_tokens, request.pending_samples, request.epoch = 0, 0, request.epoch + 1
        self.blocks.take_all_back()
