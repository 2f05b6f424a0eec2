"""A scheduler for tokens that are still in flight: all requests in every batch, and no gap between the batches.

Batch N + 1 is scheduled, packed and launched while batch N is still running, with carry-over for the tokens that N has
yet to sample. The price of chapter 5 is gone: no request sits out a step, and the weights are read once for all.

What the host does not know when it schedules N + 1 is how N ends. A request that certainly reaches its length limit
with N is not scheduled again. One that turns out to end with an end-of-sequence token or a stop string in N is in
N + 1 all the same, and runs one step too far: its row is dropped at commit, because its epoch has moved on.
"""

from ch02_continuous_batching import Request, Row, Scheduler


class CarryScheduler(Scheduler):
    """Schedules tokens that are still in flight as if they were known: the device will fill them in."""

    def num_tokens_for(self, request: Request) -> int:
        """As in chapter 2, but a pending sample counts as one more token that can be computed.

        0 for a request that will have all its `max_tokens` tokens once its pending samples are in: it ends there.
        """
        raise NotImplementedError("ch07 exercise 3: Schedule what is still in flight")

    def _row(self, request: Request, num_tokens: int) -> Row:
        """As in chapter 2, but the last token of a request may be a pending one: the row samples if it reaches it."""
        raise NotImplementedError("ch07 exercise 3: Schedule what is still in flight")
